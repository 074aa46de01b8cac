"""The wheel holds the package and nothing else, and its weights and notices travel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build", reason="the `dev` extra brings build")
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "-o",
        str(out),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_wheel_contains_the_package_alone(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cstl_edge"}
    assert "cstl_edge/py.typed" in wheel.namelist()


def test_sources_of_the_plugin_travel(wheel):
    sources = {f"cstl_edge/csrc/{path.name}" for path in (ROOT / "cstl_edge" / "csrc").iterdir()}
    assert "cstl_edge/csrc/part_gather.cu" in sources
    assert sources <= set(wheel.namelist())


def test_presets_travel(wheel):
    presets = {path.name for path in (ROOT / "train" / "configs").iterdir()}
    assert {"cstl-casia-b.yaml", "tables.yaml"} <= presets
    assert {f"cstl_edge/training/configs/{name}" for name in presets} <= set(wheel.namelist())


def test_weights_models_and_notices_travel(wheel):
    names = set(wheel.namelist())
    assets = {f"cstl_edge/assets/{name}" for name in ("walker_body.npz", "stride_basis.npz")}
    model = {
        f"cstl_edge/assets/cstl-walkers/{n}"
        for n in ("frames.onnx", "head.onnx", "step.int8.onnx", "manifest.json")
    }
    notices = {
        f"cstl_edge/assets/NOTICE-{n}.md"
        for n in ("walkers", "sports2d", "blazepose", "fastestdet", "person-mask-small")
    }
    wanted = (
        assets
        | model
        | notices
        | {"cstl_edge/assets/person_mask.onnx", "cstl_edge/assets/person_mask.json"}
        | {"cstl_edge/assets/person_mask_small.onnx", "cstl_edge/assets/person_mask_small.json"}
        | {"cstl_edge/assets/walk.mp4", "cstl_edge/assets/person_detector.onnx"}
    )
    assert wanted <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert sum(info.compress_size for info in wheel.infolist()) < 40 * 2**20
