"""Plugin libraries: building, finding and loading them; `tests/csrc` really compiles."""

import json
import os
import runpy
import shutil
from pathlib import Path

import pytest
from command_line import call

from cstl_edge.errors import BackendUnavailable, ConfigError, ModelError
from cstl_edge.runtime.tensorrt import plugin

CMAKE = """#!/bin/sh
# A stand-in: `-S` configures, `--build` "compiles" what the variables FAILS and CHECK tell it to.
if [ "$1" = -S ]; then
    if [ "$FAILS" = configure ]; then
        printf 'CMake Error at x:1 (message):\\n  expected nvcc,\\n  found none\\n\\nx\\n'
        exit 1
    fi
    printf '%s\\n' "$@" > "$CMAKE_ARGUMENTS"
    echo '{"cuda": "13.0.88", "architectures": "87-real", "tensorrt": "10.3"}' > "$4/found.json"
else
    [ "$FAILS" = compile ] && echo 'part_gather.cu(7): error: what is this' && exit 2
    for library in part_gather part_gather_trt10; do echo "$CHECK" > "$2/libcstl_$library.so"; done
    for test in "$2/part_gather_test" "$2/part_gather_plugin_test"; do
        printf '#!/bin/sh\\necho %s\\n[ "$FAILS" != test ]\\n' "$CHECK" > "$test"
        chmod +x "$test"
    done
fi
"""


@pytest.fixture
def cmake(tmp_path, monkeypatch):
    """Put a stand-in before the real cmake; returns where it writes its settings."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "cmake").write_text(CMAKE)
    (tools / "cmake").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.setenv("CHECK", "first")
    monkeypatch.setenv("CMAKE_ARGUMENTS", str(tmp_path / "cmake_arguments"))
    monkeypatch.setenv("FAILS", "")
    return tmp_path / "cmake_arguments"


@pytest.fixture
def built(cmake, tmp_path):
    """A folder with a kernel and a plugin library, and the records that `build` returned."""
    folder = tmp_path / "libraries"
    return folder, plugin.build(folder=folder)


def test_a_build_leaves_only_libraries_and_records(built):
    folder, (kernel, library) = built
    assert (kernel.tensorrt, library.tensorrt) == (None, "10.3")
    assert (kernel.cuda, kernel.architectures, kernel.checked) == ("13.0.88", "87-real", "first")
    assert plugin.find(None, folder) == kernel
    assert plugin.find(10, folder) == library
    names = {path.name for path in folder.iterdir()}
    assert names == {"build.log"} | {
        f"libcstl_part_gather{suffix}" for suffix in (".so", ".json", "_trt10.so", "_trt10.json")
    }


def test_options_reach_cmake(cmake, tmp_path):
    plugin.build(architectures=("86", "89"), tensorrt_root=tmp_path, folder=tmp_path / "out")
    settings = cmake.read_text().splitlines()
    assert {"-DCSTL_EDGE_PLUGIN=ON", f"-DTensorRT_ROOT={tmp_path}"} < set(settings)
    assert "-DCSTL_EDGE_ARCHITECTURES=86;89" in settings
    plugin.build(kernel_only=True, folder=tmp_path / "out")
    settings = cmake.read_text().splitlines()
    assert "-DCSTL_EDGE_PLUGIN=OFF" in settings


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ("configure", BackendUnavailable, r"expected nvcc, found none \(all of it: .*build.log"),
        ("compile", ModelError, r"part_gather.cu\(7\): error: what is this"),
        ("test", ModelError, "second"),
    ],
)
def test_a_failed_build_changes_nothing(built, monkeypatch, step, error, message):
    folder, before = built
    monkeypatch.setenv("FAILS", step)
    monkeypatch.setenv("CHECK", "second")
    with pytest.raises(error, match=message):
        plugin.build(folder=folder)
    assert [plugin.find(None, folder), plugin.find(10, folder)] == before
    assert not list(folder.glob("build-*"))


def test_a_build_replaces_earlier_libraries(built, monkeypatch):
    folder, before = built
    monkeypatch.setenv("CHECK", "second")
    after = plugin.build(folder=folder)
    assert plugin.find(10, folder) == after[1] != before[1]


def test_a_missing_library_is_unavailable(built, tmp_path):
    with pytest.raises(BackendUnavailable, match="cstl-edge plugin build"):
        plugin.find(11, built[0])
    with pytest.raises(BackendUnavailable, match="cstl-edge plugin build"):
        plugin.find(None, tmp_path / "nowhere")


def test_a_library_without_its_record_is_refused(built):
    folder, (kernel, _) = built
    record = Path(kernel.path).with_suffix(".json")
    for content in (None, "{", "[]", '{"path": 1}'):
        record.unlink() if content is None else record.write_text(content)
        with pytest.raises(BackendUnavailable, match="its record"):
            plugin.find(None, folder)


def test_a_changed_library_is_refused(built):
    folder, (kernel, _) = built
    Path(kernel.path).write_text("something else")
    with pytest.raises(ModelError, match="expected sha256"):
        plugin.find(None, folder)


def test_a_library_of_other_sources_is_refused(built, monkeypatch):
    monkeypatch.setattr(plugin, "sources_sha256", lambda: "0" * 64)
    with pytest.raises(BackendUnavailable, match="another version"):
        plugin.find(None, built[0])


@pytest.mark.parametrize("what", ["link", "file", "folder"])
def test_a_library_that_others_may_write_is_refused(built, what):
    folder, (kernel, _) = built
    path = Path(kernel.path)
    if what == "link":
        path.rename(folder / "elsewhere.so")
        path.symlink_to(folder / "elsewhere.so")
    else:
        (path if what == "file" else folder).chmod(0o777)
    with pytest.raises(ModelError, match="only you can change"):
        plugin.find(None, folder)


def test_a_library_that_does_not_load_is_unavailable(built):
    with pytest.raises(BackendUnavailable, match="does not load here"):
        plugin.load(built[1][0])


def test_a_missing_cmake_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="apt install cmake"):
        plugin.build(folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_impossible_folder_is_named(cmake, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="building in"):
        plugin.build(folder=tmp_path / "file" / "out")


def test_the_library_folder_follows_xdg_cache_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plugin.library_folder().is_relative_to(tmp_path)


@pytest.mark.parametrize(
    "option", [{"architectures": ("87;-DX=1",)}, {"tensorrt_root": Path("nowhere")}]
)
def test_a_wrong_option_is_a_configuration_error(option, tmp_path):
    with pytest.raises(ConfigError, match="expected"):
        plugin.build(folder=tmp_path, **option)


def test_the_verb_prints_the_built_libraries(cmake, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = call("plugin", "build", "--json")
    assert done.returncode == 0, done.stderr
    assert [row["tensorrt"] for row in json.loads(done.stdout)] == [None, "10.3"]
    done = call("plugin", "build", "--json", "--architectures", "new")
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected architectures such as 87")


def test_the_benchmark_without_a_gpu_is_an_error(capsys):
    torch = pytest.importorskip("torch", reason="the benchmark compares with torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: run benchmarks/part_gather.py itself")
    script = Path(__file__).parents[3] / "benchmarks" / "part_gather.py"
    assert runpy.run_path(str(script))["main"]([]) == 4
    output = capsys.readouterr()
    assert output.err.startswith("error: expected an NVIDIA GPU")
    assert not output.out


def test_sources_are_hashed_by_content(tmp_path, monkeypatch):
    copy = shutil.copytree(plugin.SOURCES, tmp_path / "csrc")
    before = plugin.sources_sha256()
    monkeypatch.setattr(plugin, "SOURCES", copy)
    assert plugin.sources_sha256() == before
    (copy / "README.md").write_text("other words")
    assert plugin.sources_sha256() == before
    with (copy / "part_gather.cuh").open("a") as file:
        file.write("//\n")
    assert plugin.sources_sha256() != before
