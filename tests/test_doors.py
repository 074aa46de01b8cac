"""Imports point only one way, and the edge never loads torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cstl_edge

ROOT = Path(cstl_edge.__file__).parent
OPEN = {"config", "errors", "measure"}
RUNTIME = {"runtime.base", "runtime.ort", "runtime.check", "runtime.streaming", "runtime"}
DOORS = {
    "silhouette": set(),
    "model": set(),
    "data": {"silhouette"},
    "gallery": set(),
    "plugin": set(),
    "runtime": {"model", "training.checkpoint", "plugin"},  # only runtime.pytorch, see below
    "evaluation": {"runtime.base", "data"},
    "training": {"data", "model", "evaluation"},
    "export": {"data", "model", "runtime", "evaluation", "training.checkpoint"},
    "live": {"runtime", "gallery", "silhouette", "data.walkers"},
    "bench": {
        "data",
        "model",
        "runtime",
        "evaluation",
        "training",
        "export",
        "live",
        "gallery",
        "silhouette",
    },
    "reproduce": {"training", "evaluation", "data", "model", "runtime", "silhouette", "live.draw"},
}
VERBS = {path.stem for path in ROOT.glob("cli_*.py")}
ABOVE = {"cli", *VERBS, "demo", "doctor", "__init__"}  # all rooms


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    """Every module of the package that a file imports, at any depth, as a dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cstl_edge"):
            inner = node.module.removeprefix("cstl_edge").lstrip(".")
            for alias in node.names:
                dotted = f"{inner}.{alias.name}" if inner else alias.name
                known = (ROOT / Path(*dotted.split("."))).with_suffix(".py").exists()
                yield dotted if known or (ROOT / Path(*dotted.split("."))).is_dir() else inner
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("cstl_edge."):
                    yield alias.name.removeprefix("cstl_edge.")


def room(name):
    return name.split(".")[0]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=module_name)
def test_imports_go_through_the_doors(path):
    name = module_name(path) or "__init__"
    if room(name) in ABOVE or room(name) in OPEN:
        return
    allowed = DOORS[room(name)] | OPEN | {room(name)}
    for target in imports(path):
        if not target:
            continue
        fits = any(target == door or target.startswith(door + ".") for door in allowed)
        assert fits, f"{name} imports {target}"
        if room(name) == "runtime" and room(target) in {"model", "training"}:
            assert name == "runtime.pytorch", f"{name} imports {target}"


def test_model_needs_torch_and_nothing_else():
    stdlib = sys.stdlib_module_names
    for path in (ROOT / "model").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top in stdlib or top == "torch" or name.startswith("cstl_edge.model")


def test_the_edge_loads_no_torch():
    code = (
        "import sys, cstl_edge, cstl_edge.runtime.ort, cstl_edge.runtime.streaming\n"
        "import cstl_edge.gallery, cstl_edge.live.pipeline, cstl_edge.cli\n"
        "cstl_edge.load().close()\n"
        "loaded = {'torch', 'tensorrt', 'onnx'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
