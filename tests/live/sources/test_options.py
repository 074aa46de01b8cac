"""Options of a source: their limits, and the query of an address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cstl_edge.errors import ConfigError
from cstl_edge.live.sources.open import open_source
from cstl_edge.live.sources.options import SourceOptions, split_query


@pytest.mark.parametrize(
    ("address", "rest", "values"),
    [
        ("rtsp://cam/1?rotate=180", "rtsp://cam/1", {"rotate": 180}),
        ("rtsp://cam/1?a=1&flip=h&b=2", "rtsp://cam/1?a=1&b=2", {"flip": "h"}),
        ("http://cam/x?fps=10&rotate=90", "http://cam/x?fps=10", {"fps": 10.0, "rotate": 90}),
        ("csi://0?fps=15&flip=v", "csi://0", {"fps": 15.0, "flip": "v"}),
        ("0?rotate=270", "0", {"rotate": 270}),
        ("walk.mp4?fps=12.5", "walk.mp4", {"fps": 12.5}),
        ("who?.mp4", "who?.mp4", {}),
        ("who?x=1&rotate=90.mp4", "who?x=1&rotate=90.mp4", {}),
        ("gst:souphttpsrc location=http://c/?rotate=90", None, {}),
        ("rtsp://cam/1?", "rtsp://cam/1", {}),
    ],
)
def test_the_query_of_an_address_is_taken_as_options(
    address: str, rest: str | None, values: dict[str, Any]
) -> None:
    assert split_query(address, SourceOptions()) == (rest or address, SourceOptions(**values))


def test_an_argument_comes_before_the_query() -> None:
    assert split_query("x.mp4?rotate=90", SourceOptions(rotate=0))[1].rotate == 0


def test_a_file_with_a_question_mark_stays_a_file(tmp_path: Path) -> None:
    name = tmp_path / "w.mp4?rotate=90"
    name.touch()
    assert split_query(str(name), SourceOptions()) == (str(name), SourceOptions())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rotate": 45}, "0, 90, 180 or 270, got 45"),
        ({"flip": "x"}, "h or v, got 'x'"),
        ({"fps": 0.0}, "above 0"),
        ({"fps": float("nan")}, "above 0"),
        ({"start_s": -1.0}, "0 <= start_s"),
        ({"start_s": 2.0, "stop_s": 2.0}, "start_s < stop_s"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SourceOptions(**fields)


@pytest.mark.parametrize("query", ["rotate=up", "rotate=45", "fps=fast"])
def test_a_query_out_of_range_is_refused_without_the_password(query: str) -> None:
    with pytest.raises(ConfigError, match="expected") as caught:
        open_source(f"rtsp://u:s3cret@127.0.0.1:9/1?{query}")
    assert "s3cret" not in str(caught.value)
