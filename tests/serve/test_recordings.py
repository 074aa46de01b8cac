"""Uploaded videos are looked at by a child; what is wrong with one is one line."""

import shutil
import time
from pathlib import Path

import pytest

import cstl_edge
from cstl_edge.errors import DataError
from cstl_edge.serve.recordings import Recordings
from cstl_edge.serve.service_data import RefusedError

WALK = Path(cstl_edge.__file__).parent / "assets" / "walk.mp4"


def looked_at(recordings, video):
    """Return the walks of a video, or what went wrong."""
    results = []
    recordings.start(video, results.append, results.append)
    end_s = time.monotonic() + 280
    while not results and time.monotonic() < end_s:
        recordings.poll()
        time.sleep(0.05)
    return results[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_walks_of_a_video_come_from_a_child(tmp_path):
    recordings = Recordings(tmp_path, None, "background")
    video = tmp_path / "upload-1.mp4"
    shutil.copy(WALK, video)
    walks = looked_at(recordings, video)
    assert walks[0].walk.windows.shape[1:] == (16, 128)
    assert walks[0].frames >= 30
    assert [path.name for path in tmp_path.iterdir()] == ["upload-1.mp4"]  # nothing is left over
    video.write_bytes(b"no video at all" * 100)
    error = looked_at(recordings, video)
    assert isinstance(error, DataError) or error.exit_code in (3, 5)
    assert "\n" not in str(error)
    assert str(tmp_path) not in str(error)


def test_a_file_outside_of_the_spool_is_not_looked_at(tmp_path):
    recordings = Recordings(tmp_path / "spool", None, "background")
    with pytest.raises(RefusedError, match="not there"):
        recordings.start(WALK, print, print)
    recordings.close()
