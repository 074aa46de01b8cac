"""Table of segmenters: names, aliases, and segmenters of other packages."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cstl_edge.cli.app import app
from cstl_edge.errors import BackendUnavailable, ConfigError
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER, SEGMENTERS, open_segmenter
from cstl_edge.registry import Entry

STREET = "synthetic://0?fps=10&seconds=1.5&size=160x120"
MINE = '''
import numpy as np
from cstl_edge.live.segmentation.base import Detection, SceneState

class Mine:
    """Somebody walks through every picture."""
    state = SceneState.READY
    def learn(self, samples, *, rolling=False):
        pass
    def segment(self, image, time_s, expected=()):
        box = (20.0 + 40 * time_s, 10.0, 40.0, 100.0)
        return [Detection(box, np.full((100, 40), 255, np.uint8), False)]

def open_it(threads):
    assert threads >= 1
    return Mine()
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a segmenter into a file of its own; return its target."""
    (tmp_path / "mine_module.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # without a gallery
    return "mine_module:open_it"


def live(segmenter: str) -> str:
    """Return the events of an empty street."""
    result = CliRunner().invoke(app, ["live", STREET, "--segmenter", segmenter])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", SEGMENTERS.entries)
def test_every_segmenter_starts_without_a_scene(name: str) -> None:
    assert open_segmenter(name).state is SceneState.LEARNING


@pytest.mark.usefixtures("mine")
def test_the_first_is_the_default_and_older_names_still_work() -> None:
    assert next(iter(SEGMENTERS)) == DEFAULT_SEGMENTER == PipelineOptions().segmenter
    for alias, name in {"roi": "person-mask", "plate": "background"}.items():
        assert type(open_segmenter(alias)) is type(open_segmenter(name))
        assert PipelineOptions(segmenter=alias)
        live(alias)


def test_an_unknown_segmenter_is_refused_with_the_known_names() -> None:
    with pytest.raises(ConfigError, match="auto, person-mask, background"):
        open_segmenter("mog2")
    with pytest.raises(ConfigError, match="did you mean background"):
        PipelineOptions(segmenter="backgroud")


def test_a_segmenter_is_one_file_and_one_line(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEGMENTERS.entries, "mine", Entry(mine, "everybody"))
    assert "mine (everybody)" in SEGMENTERS.help()
    assert "born" in live("mine")


def test_another_package_adds_a_segmenter(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("theirs", mine, "cstl_edge.segmenters"),
        EntryPoint("broken", "no_such_module:open_it", "cstl_edge.segmenters"),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: points)
    assert list(SEGMENTERS) == [*SEGMENTERS.entries, "theirs", "broken"]
    assert "born" in live("theirs")
    with pytest.raises(BackendUnavailable, match="segmenter broken of another package"):
        open_segmenter("broken")
