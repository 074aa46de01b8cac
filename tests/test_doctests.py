"""The examples in docstrings are true."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

import cstl_edge

ROOT = Path(cstl_edge.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if re.search(r"^ +>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
)
LATE = {"cstl_edge.bench.report.formatting": "scipy"}  # needed by an example, imported when it runs
HEAVY = {"torch", "matplotlib", "scipy", "jinja2", "onnxslim", "safetensors", "cv2"}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    if name in LATE:
        pytest.importorskip(LATE[name])
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as err:
        if err.name not in HEAVY:
            raise
        pytest.skip(f"needs {err.name}")
    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0
