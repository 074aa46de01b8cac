"""Credentials of cameras from the environment and from a private file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from standin_cameras import HttpCamera

from cstl_edge import credentials
from cstl_edge.credentials import credentials_file, fill_in
from cstl_edge.errors import ConfigError
from cstl_edge.live.sources.open import open_source


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of credentials."""
    path = tmp_path / "credentials"
    path.write_text("# cameras\nCAM1 = user:s3c ret/@\nPW=s3cret\n")
    path.chmod(0o600)
    monkeypatch.setenv(credentials.FILE_VARIABLE, str(path))
    return path


def test_a_name_is_replaced_from_a_private_file(private: Path) -> None:
    assert credentials_file() == private
    assert fill_in("rtsp://{CAM1}@cam/1?x={y") == "rtsp://user:s3c%20ret%2F%40@cam/1?x={y"
    pipeline = "gst:rtspsrc location=rtsp://cam user-pw={PW} ! decodebin"
    assert fill_in(pipeline) == pipeline.replace("{PW}", "s3cret")


def test_the_environment_comes_first(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAM1", "other:s3cret")
    assert fill_in("rtsp://{CAM1}@cam") == "rtsp://other:s3cret@cam"
    assert "CAM1" not in credentials.environment_without_credentials()


def test_a_file_that_others_may_read_is_refused(private: Path) -> None:
    private.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        fill_in("rtsp://{CAM1}@cam")
    assert "s3c" not in str(caught.value)


def test_an_unknown_name_says_where_to_write_it(private: Path) -> None:
    with pytest.raises(ConfigError, match=r"no credentials \{CAM2\}: set the variable CAM2"):
        open_source("rtsp://{CAM2}@cam")
    private.unlink()
    with pytest.raises(ConfigError, match="CAM2=USER:PASSWORD"):
        open_source("rtsp://{CAM2}@cam")


def test_a_camera_is_opened_and_its_password_stands_nowhere(
    private: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CAM9", "user:s3cret")
    with contextlib.closing(HttpCamera()) as camera:
        address = camera.address.replace("user:s3cret", "{CAM9}")
        with open_source(address) as source:
            next(source)
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            texts = [Path(f"/proc/{child}/environ").read_bytes() for child in children]
            texts += [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
            assert texts
            assert not any(b"s3cret" in text for text in texts)
            assert "s3cret" not in source.uri + repr(source) + caplog.text


def test_a_file_may_have_braces_in_its_name(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"\{CAM1\}\.mp4"):
        open_source(tmp_path / "{CAM1}.mp4")
