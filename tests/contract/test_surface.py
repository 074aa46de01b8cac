"""The table of what we call keeps up with the code, and the comparison with a wheel can fail.

The wheels themselves are compared by `python tests/contract/run.py`, which downloads them.
"""

import ast
import importlib.util
import sys
import types
from pathlib import Path

import pytest
import standin_tensorrt
from standin_cuda import Device, bindings

import cstl_edge

ROOT = Path(cstl_edge.__file__).parent
SOURCES = [*ROOT.glob("runtime/tensorrt/*.py"), *ROOT.glob("export/tensorrt/*.py")]
RTX_ONLY = {"ComputeCapability"}  # TensorRT-RTX alone; its real builder runs in tests/export


def _load(name):
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


surface, look = _load("surface"), _load("look")
CLASSES = dict.fromkeys(["Builder", "OnnxParser", "Runtime", "ILogger", "IProgressMonitor"]) | {
    "Context": "IExecutionContext",
    "Engine": "ICudaEngine",
    "Inspector": "EngineInspector",
    "BuilderConfig": "IBuilderConfig",
    "Registry": "IPluginRegistry",
    "Network": "INetworkDefinition",
    "Layer": "ILayer",
    "OptimizationProfile": "IOptimizationProfile",
    "TimingCache": "ITimingCache",
    "ParserError": "ParserError",
}
"""Classes of the stand-in, and the real ones where they have another name."""
OWN = {"Network.read"}  # how the stand-in parser fills the stand-in network


def called():
    """Every class and every class.name of the table."""
    names = {*surface.METHODS, *surface.OVERRIDDEN, *surface.READ}
    names |= {f"IBuilderConfig.{name}" for name in surface.WRITTEN}
    names |= {f"{kind}.{name}" for kind, members in surface.MEMBERS.items() for name in members}
    return names | {f"{kind}.{name}" for kind, name in surface.SINCE} | set(surface.CONSTRUCTED)


def chains(path):
    """Every `trt.A` and `trt.A.B` of a source."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        words = []
        while isinstance(node, ast.Attribute):
            words.insert(0, node.attr)
            node = node.value
        if words and isinstance(node, ast.Name) and node.id == "trt":
            yield words


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parts[-3]}.{path.stem}")
def test_what_the_sources_name_is_in_the_table(path):
    known = called()
    classes = {name.split(".")[0] for name in known}
    for words in chains(path):
        if words[0] in {*RTX_ONLY, "__version__", "__name__"} or words[-1] in (
            "Severity",
            "__init__",
        ):
            continue
        assert words[0] in classes, f"{path.name}: trt.{'.'.join(words)}"
        if len(words) > 1 and not words[1].startswith("__"):
            assert ".".join(words[:2]) in known, f"{path.name}: trt.{'.'.join(words)}"


def test_the_sources_call_tensorrt():
    assert {words[0] for path in SOURCES for words in chains(path)} >= {"Runtime", "Builder"}


def test_the_stand_in_has_nothing_that_is_not_in_the_table():
    """So whatever runs on the stand-in calls only what the real bindings were asked for."""
    module = standin_tensorrt.make(standin_tensorrt.State(Device()))
    known = called()
    for name, real in CLASSES.items():
        kind = getattr(module if real is None else standin_tensorrt, name)
        public = {n for n in vars(kind) if not n.startswith("_")}
        for attribute in public - {"Severity", "libraries", "creators", "known"}:
            if f"{name}.{attribute}" not in OWN:
                assert f"{real or name}.{attribute}" in known


def test_the_stand_in_of_cuda_has_nothing_that_is_not_in_the_table():
    runtime = bindings(Device())["cuda.bindings.runtime"]
    known = {*surface.CUDA, *(name.split(".")[0] for name in surface.CUDA_NAMES)}
    assert {name for name in vars(runtime) if not name.startswith("_")} <= known


class Real:
    """What a binding looks like: signatures in docstrings."""

    def parse(self):
        """parse(self: OnnxParser, model: buffer, path: str = None) -> bool"""

    def get_error(self):
        """get_error(*args, **kwargs)
        Overloaded function.

        1. get_error(self: OnnxParser, index: int) -> ParserError

        2. get_error(self: OnnxParser, name: str, index: int) -> ParserError
        """


@pytest.mark.parametrize(
    ("name", "wanted", "lines"),
    [
        ("OnnxParser.parse", ("model",), []),
        ("OnnxParser.parse", ("model", "path"), []),
        ("OnnxParser.parse", ("path",), ["expected ('path',)"]),
        ("OnnxParser.parse", ("model", "path", "flags"), ["expected"]),
        ("OnnxParser.get_error", ("index",), []),
        ("OnnxParser.get_error", ("name",), []),
        ("OnnxParser.get_error", ("number",), ["expected ('number',)"]),
        ("OnnxParser.gone", (), ["is missing"]),
        ("Gone.parse", (), ["is missing"]),
    ],
)
def test_a_signature_that_differs_is_told(name, wanted, lines):
    module = types.SimpleNamespace(OnnxParser=Real)
    found = [*look._method(module, name, wanted)]
    assert len(found) == len(lines)
    for line, part in zip(found, lines, strict=True):
        assert part in line


def test_a_member_that_is_missing_is_told():
    module = standin_tensorrt.make(standin_tensorrt.State(Device()), "10.3.0")
    del module.BuilderFlag
    assert "BuilderFlag.TF32 is missing" in [*look.look(module)]
