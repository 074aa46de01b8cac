"""Archives on a Ray cluster: a local one, with a worker killed; skipped where Ray is missing."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from golden_export import GOLDEN

from cstl_edge.errors import BackendUnavailable, MissingPackage
from cstl_edge.live.archive.embed import ArchiveOptions
from cstl_edge.live.archive.items import find_items
from cstl_edge.live.archive.ray_cluster import embed_by_ray


def test_ray_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match="ray"):
        list(embed_by_ray([], ArchiveOptions("out"), "auto"))


def _kill_a_worker(out, killed):
    """Kill the first worker of the cluster that embeds, once there are results."""
    while not killed:
        time.sleep(0.02)
        if not list(out.rglob("*.json")):
            continue
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                name = process.read_bytes()
            except OSError:
                continue
            if name.startswith(b"ray::_embed") and not killed:
                os.kill(int(process.parent.name), signal.SIGKILL)
                killed.append(process.parent.name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_worker_costs_nothing(tmp_path):
    pytest.importorskip("ray", reason="needs pip install ray")
    (tmp_path / "archive").mkdir()
    for i in range(60):
        shapes = np.zeros((30, 16, 12), np.uint8)
        shapes[:, 2:14, 4:8] = 255
        np.save(tmp_path / "archive" / f"{i}.npy", shapes)
    out, killed = tmp_path / "out", []
    threading.Thread(target=_kill_a_worker, args=(out, killed), daemon=True).start()
    options = ArchiveOptions(str(out), str(GOLDEN / "tiny"))
    try:
        results = list(embed_by_ray(find_items([tmp_path / "archive"]), options, "local"))
    except BackendUnavailable as err:  # Ray gives a node of a busy machine 30 s to start
        pytest.skip(str(err))
    finally:
        killed.append("enough")
    assert [result.error for result in results] == [None] * 60
    assert len(list(out.rglob("*.npz"))) == 60
    assert killed[0] != "enough", "all was done before a worker could be killed"
