"""A build that does not fit into memory is refused before, with advice."""

import pytest

from cstl_edge.errors import ExportError
from cstl_edge.export.tensorrt import builder
from cstl_edge.export.tensorrt.build import BuildOptions, Sizes, build_engines
from cstl_edge.runtime.cuda.base import Gpu

GPU = {"name": "Orin", "sm": 87, "total_bytes": 8 * 2**30, "cuda": "12.6"}


@pytest.mark.parametrize(
    ("available_mib", "swap_mib", "gpu_mib", "fits"),
    [
        (4000, 0, 3000, True),
        (1500, 0, 3000, False),
        (1500, 2500, 3000, True),
        (8000, 0, 500, False),
    ],
)
def test_memory_is_looked_at_before(monkeypatch, tmp_path, available_mib, swap_mib, gpu_mib, fits):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(
        f"MemTotal: 1 kB\nMemAvailable: {available_mib * 1024} kB\nSwapFree: {swap_mib * 1024} kB\n"
    )
    monkeypatch.setattr(builder, "MEMINFO", meminfo)
    gpu = Gpu(free_bytes=gpu_mib * 2**20, integrated=True, **GPU)
    ask = lambda: builder.check_memory(gpu, 13 * 2**20, 2**30)  # noqa: E731
    if fits:
        ask()
        return
    with pytest.raises(ExportError, match="--workspace 256"):
        ask()


def test_a_gpu_without_memory_is_refused(folder, here):
    here(device={"free": 2**20, "total": 2**30})
    with pytest.raises(ExportError, match="1 MiB free"):
        build_engines(folder, BuildOptions(sizes=Sizes(8, 6, 12), plugin="off", workspace_mib=64))
