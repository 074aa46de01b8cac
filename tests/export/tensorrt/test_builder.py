"""Configuration of the TensorRT builder, and the path of the part gather."""

import sys
from dataclasses import replace

import pytest
import standin_site
import standin_tensorrt

from cstl_edge.errors import BackendUnavailable, ConfigError, ExportError, ModelError
from cstl_edge.export.tensorrt import builder
from cstl_edge.export.tensorrt.build import BuildOptions, build_engines
from cstl_edge.export.tensorrt.builder import PlanRequest, build_plan
from cstl_edge.export.tensorrt.sources import Sizes, graph_files, profiles
from cstl_edge.export.tensorrt.timing import time_candidates
from cstl_edge.runtime.cuda.base import Gpu
from cstl_edge.runtime.manifest import read_manifest

OPTIONS = BuildOptions(sizes=Sizes(walkers=8, window=6, frames=12), plugin="off")


# How it is configured


def test_the_builder_is_configured_once(folder, here):
    """In this process, where the configuration can be looked at."""
    state = here()
    shape = read_manifest(folder).shape
    request = PlanRequest(
        "tensorrt", profiles("frames", shape, OPTIONS.sizes), workspace_bytes=7, level=4
    )
    steps = []
    built = build_plan(
        sys.modules["tensorrt"], (folder / "frames.onnx").read_bytes(), request,
        lambda *step: steps.append(step) or True, timings=b"timed before ",
    )  # fmt: skip
    config = state.config
    assert config.builder_optimization_level == 4
    assert config.pools == {"WORKSPACE": 7}
    assert config.flags_cleared == ["TF32"]
    assert config.profiling_verbosity.name == "DETAILED"
    assert [p.ranges["silhouettes"]["max"] for p in config.profiles] == [[1, 16, 12], [8, 16, 12]]
    assert built.timings == b"timed before timed "
    assert steps == [("Building", 1, 3), ("Building", 2, 3), ("Building", 3, 3)]


def test_abandoned_build_stops(folder, here):
    here()
    request = PlanRequest(
        "tensorrt", profiles("frames", read_manifest(folder).shape, OPTIONS.sizes)
    )
    steps = []
    with pytest.raises(ExportError, match="gave no engine"):
        build_plan(
            sys.modules["tensorrt"], (folder / "frames.onnx").read_bytes(), request,
            lambda *step: bool(steps.append(step)),
        )  # fmt: skip
    assert len(steps) == 1


def test_timings_are_kept_by_what_they_depend_on(folder, here, tmp_path):
    build_engines(folder, OPTIONS)
    kept = tmp_path / "cache" / "cstl-edge"
    (first,) = kept.iterdir()
    assert first.name == "timings_trt-10.3.0_cuda-12.6_sm87-Orin_plugin-none.cache"
    size = first.stat().st_size
    build_engines(folder, OPTIONS)
    assert first.stat().st_size > size
    here(version="10.9.0")
    build_engines(folder, OPTIONS)
    assert len([*kept.iterdir()]) == 2


def test_damaged_timings_are_refused(folder, here, tmp_path):
    build_engines(folder, OPTIONS)
    (kept,) = (tmp_path / "cache" / "cstl-edge").iterdir()
    kept.write_bytes(b"\0")
    with pytest.raises(ExportError, match="timing cache"):
        build_engines(folder, OPTIONS)


def test_compatibility_that_this_tensorrt_has_not(folder, here):
    options = replace(OPTIONS, compatibility="same")
    with pytest.raises(ExportError, match=r"10\.9 or newer"):
        build_engines(folder, options)
    here(version="10.9.0")
    assert build_engines(folder, options)["head"].compatibility == "same"


@pytest.mark.parametrize(
    "wrong",
    [
        {"plugin": "perhaps"},
        {"compatibility": "all"},
        {"level": 6},
        {"workspace_mib": 0},
        {"graphs": ()},
        {"graphs": ("tail",)},
    ],
)
def test_options_out_of_range(wrong):
    with pytest.raises(ConfigError, match="expected"):
        BuildOptions(**wrong)


@pytest.mark.parametrize("sizes", [{"walkers": 0}, {"walkers": 33}, {"window": 0}, {"window": 300}])
def test_sizes_out_of_range(sizes):
    with pytest.raises(ConfigError, match="expected"):
        Sizes(**sizes)


@pytest.mark.parametrize("target", ["rtx", "rtx-sm", "rtx-89", "rtx-sm8", "../x"])
def test_unknown_target_is_refused(target):
    with pytest.raises(ConfigError, match="rtx-sm89"):
        BuildOptions(target=target)


def test_missing_precision_error_names_the_export_command(folder):
    with pytest.raises(ModelError, match="--precision fp16"):
        build_engines(folder, BuildOptions(precision="fp16"))


def test_the_graphs_of_a_precision_are_those_the_manifest_names(folder):
    manifest = read_manifest(folder)
    files = {
        f"{graph}.{p}.onnx": "0" * 64 for graph in ("frames", "head") for p in ("fp16", "int8")
    }
    reduced = {
        "fp16": {"frames": "frames.fp16.onnx", "heads": {"tensorrt": "head.fp16.onnx"}},
        "int8": {"frames": "frames.int8.onnx", "heads": {"tensorrt": "head.fp16.onnx"}},
    }
    data = manifest.model_dump() | {"precisions": reduced, "files": manifest.files | files}
    manifest = type(manifest).model_validate(data)
    both = ("frames", "head")
    assert graph_files(manifest, "int8", both) == {
        "frames": "frames.int8.onnx",
        "head": "head.fp16.onnx",
    }
    assert graph_files(manifest, "float32", ("full",)) == {"full": "full.onnx"}
    with pytest.raises(ExportError, match="expected the graph full in fp16"):
        graph_files(manifest, "fp16", ("full",))


# Memory

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
def test_memory_is_checked_before_building(
    monkeypatch, tmp_path, available_mib, swap_mib, gpu_mib, fits
):
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
        build_engines(folder, replace(OPTIONS, workspace_mib=64))


# The plugin


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library that the stand-in's registry takes, found by the child and by this process."""
    path = tmp_path / "cache" / "cstl-edge" / "plugin" / "libcstl_part_gather_trt10.so"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"plugin")
    monkeypatch.setattr("cstl_edge.runtime.tensorrt.encoder.plugin_library", lambda trt: path)
    return path


@pytest.mark.parametrize("version", ["10.3.0", "10.6.0", "10.7.0", "11.4.0"])
def test_the_plugin_is_taken_whatever_the_parser_prefers(library, reduced, version):
    """Before 10.7 a function body beats a plugin, so it must be gone; the file stays as it is."""
    before = (reduced / "head.onnx").read_bytes()
    built = _head(reduced, version, library)
    assert built.audit["part_gather"] == "plugin"
    assert built.plugin_sha256
    assert (reduced / "head.onnx").read_bytes() == before


def _head(folder, version, library):
    request = PlanRequest("tensorrt", profiles("head", read_manifest(folder).shape, OPTIONS.sizes))
    state = standin_site.state_of({"plugins": [str(library)]})
    trt = standin_tensorrt.make(state, version)
    state_inspector = standin_tensorrt.Engine
    try:
        standin_tensorrt.Engine = lambda state, plan: state_inspector(
            state, standin_tensorrt.pack((folder / "head.onnx").read_bytes(), [])
        )  # ONNX Runtime, which stands for the engine, has no plugin
        return build_plan(
            trt, (folder / "head.onnx").read_bytes(), request, lambda *_: True, library
        )
    finally:
        standin_tensorrt.Engine = state_inspector


def test_a_plugin_that_the_parser_passes_by_is_an_error(library, reduced, monkeypatch):
    monkeypatch.setattr("cstl_edge.export.tensorrt.builder.PLUGIN_BEATS_FUNCTION", (10, 0))
    with pytest.raises(ExportError, match="took the function body"):
        _head(reduced, "10.3.0", library)


def test_a_plugin_that_is_wanted_and_missing(reduced, here):
    with pytest.raises(BackendUnavailable, match="cstl-edge plugin build"):
        build_engines(reduced, replace(OPTIONS, plugin="on"))


def test_a_graph_of_another_version_than_the_plugin_runs_its_function_body(folder, here, library):
    """The golden export is of version 1: refused by name where the plugin is insisted on."""
    with pytest.raises(ExportError, match=r"is version 2, .*; got version 1\. Export .* again"):
        build_engines(folder, replace(OPTIONS, plugin="on"))
    built = build_engines(folder, replace(OPTIONS, plugin="auto"))
    assert built["head"].audit["part_gather"] == "function body"


@pytest.mark.parametrize("faster", ["plugin", "function body"])
def test_auto_builds_with_and_without_the_plugin_and_keeps_the_faster(
    reduced, here, library, monkeypatch, faster
):
    here(plugins=[str(library)], version="10.9.0")  # where the function body may stay
    times_ms = {"plugin": 2.0, "function body": 2.0} | {faster: 1.0}

    def timed(candidates, folder):
        assert [record.plugin is not None for record, _ in candidates.values()] == [True, False]
        return {name: times_ms[name] for name in candidates}

    monkeypatch.setattr("cstl_edge.export.tensorrt.child.plugin_library", lambda trt: library)
    monkeypatch.setattr("cstl_edge.export.tensorrt.build.time_candidates", timed)
    monkeypatch.setattr("cstl_edge.export.tensorrt.build.compare_engines", lambda *_: {})
    built = build_engines(reduced, replace(OPTIONS, plugin="auto"))
    assert built["head"].audit["part_gather"] == faster
    assert (built["head"].plugin is None) == (faster == "function body")
    assert built["head"].audit["part_gather_ms"] == times_ms
    assert built["head"].options["plugin"] == "auto"
    assert "part_gather_ms" not in built["frames"].audit


def test_candidates_are_timed_by_the_gpu_in_turn(reduced, here):
    records = build_engines(reduced, replace(OPTIONS, plugin="off", precision="float32"))
    place = reduced / "engines" / "tensorrt"
    candidate = records["head"], (place / "head.plan").read_bytes()
    times_ms = time_candidates({"a": candidate, "b": candidate}, reduced)
    assert set(times_ms) == {"a", "b"}
    assert min(times_ms.values()) > 0


def test_without_a_plugin_the_function_body_serves(folder, here):
    built = build_engines(folder, replace(OPTIONS, plugin="auto"))
    assert built["head"].audit["part_gather"] == "function body"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state, path: path.unlink(), "cannot be read"),
        (lambda state, path: state.registry.libraries.clear(), "of another TensorRT or processor"),
        (
            lambda state, path: state.registry.creators.add(standin_site.CREATOR),
            "already registered in this process, by another library",
        ),
    ],
    ids=["missing", "of another major version", "already registered"],
)
def test_a_plugin_that_is_not_ours_ends_a_build_before_it_begins(reduced, library, spoil, message):
    state, built = standin_site.state_of({"plugins": [str(library)]}), []
    state.build = lambda logger, config: built.append(config)
    spoil(state, library)
    request = PlanRequest("tensorrt", profiles("head", read_manifest(reduced).shape, OPTIONS.sizes))
    graph, trt = (reduced / "head.onnx").read_bytes(), standin_tensorrt.make(state)
    with pytest.raises(ModelError, match=message):
        build_plan(trt, graph, request, lambda *_: True, library)
    assert not built
    assert state.deserialised == 0
