"""The floors of the package: who may import whom, what a file may be, and that no circle exists."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import cstl_edge

ROOT = Path(cstl_edge.__file__).parent
FLOORS = [
    {"deprecations", "errors", "arrays"},
    {"output", "foreign", "extras"},
    {"model", "measure", "numerics", "distance", "config", "opencv", "registry", "credentials"},
    {"checkpoint", "gallery", "silhouette"},
    {"runtime", "walkers"},
    {"live", "data"},
    {"evaluation", "demo", "__init__"},
    {"export", "training", "doctor"},
    {"bench", "reproduce"},
    {"serve"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MAX_LINES, MAX_FUNCTION_LINES = 400, 50
TORCH_FREE = ("live", "gallery", "runtime")
WITH_TORCH = "runtime.backends.pytorch"
TARGET = re.compile(r"cstl_edge(?:\.\w+)+(?::\w+)?")


def module_name(path):
    """runtime/load.py -> runtime.load; runtime/__init__.py -> runtime; __init__.py -> __init__"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def resolve(dotted):
    """The module of the package that a dotted name (of a module or of a thing in one) means."""
    inner = dotted.removeprefix("cstl_edge").lstrip(".")
    while inner and inner not in FILES:
        inner = inner.rpartition(".")[0]
    return inner or "__init__"


def imports(name):
    """Every module that a module imports at any depth, starts by `-m`, or names in a table."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cstl_edge":
            for alias in node.names:
                yield resolve(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "cstl_edge":
                    yield resolve(alias.name)
        elif isinstance(node, ast.Constant) and TARGET.fullmatch(str(node.value)):
            target = resolve(node.value.partition(":")[0])
            if ":" in node.value or target != "__init__":  # groups of entry points: no modules
                yield target


EDGES = {name: {target for target in imports(name) if target != name} for name in FILES}


def room(name):
    return name.split(".")[0]


def circles(edges):
    """Groups of two or more that reach each other (Tarjan's strongly connected components)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(edges.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = set()
            while node not in group:
                group.add(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def test_circles_are_found():
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "d"}}
    assert circles(edges) == [["a", "b", "c"]]


def test_every_room_has_a_floor():
    assert {room(name) for name in FILES} <= set(FLOOR)


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    for target in EDGES[name]:
        if room(target) != room(name):
            assert FLOOR[room(target)] < FLOOR[room(name)], f"{name} imports {target}"


def test_no_circle_of_modules():
    assert circles(EDGES) == []


def test_no_circle_of_rooms():
    edges = defaultdict(set)
    for name, targets in EDGES.items():
        edges[room(name)] |= {room(target) for target in targets} - {room(name)}
    assert circles(edges) == []


def test_a_base_imports_no_sibling_implementation():
    for name, targets in EDGES.items():
        package, _, last = name.rpartition(".")
        if last == "base":
            siblings = {
                t
                for t in targets
                if t.startswith(f"{package}.") and t.count(".") == name.count(".")
            }
            implementations = {t for t in siblings if name in EDGES[t]}
            assert not implementations, f"{name} imports {implementations}"


@pytest.mark.parametrize("name", [n for n, p in FILES.items() if p.name == "__init__.py"])
def test_inits_only_hand_names_on(name):
    if name == "__init__":  # the public names load on first use
        return
    for node in TREES[name].body:
        fits = isinstance(node, ast.ImportFrom) or (
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        )
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert fits or docstring, f"{FILES[name]}:{node.lineno}: {ast.unparse(node)[:60]}"


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_are_short(name):
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{name}.{node.name} has {lines} lines"


def test_no_class_name_is_defined_twice():
    homes = defaultdict(list)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name)
    assert {k: v for k, v in homes.items() if len(v) > 1} == {}


def imported_packages(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("name", [n for n in FILES if room(n) in TORCH_FREE and n != WITH_TORCH])
def test_the_edge_knows_neither_torch_nor_model(name):
    assert "torch" not in set(imported_packages(TREES[name]))
    assert not {t for t in EDGES[name] if room(t) in {"model", "checkpoint"}}


@pytest.mark.parametrize("name", [n for n in FILES if room(n) == "model"])
def test_model_needs_torch_and_nothing_else(name):
    assert set(imported_packages(TREES[name])) <= {*sys.stdlib_module_names, "torch", "cstl_edge"}
    assert {room(target) for target in EDGES[name]} <= {"model"}


def test_the_edge_loads_no_torch():
    code = (
        "import sys, cstl_edge, cstl_edge.runtime.backends.onnxruntime\n"
        "import cstl_edge.runtime.streaming.encoder, cstl_edge.gallery.gallery\n"
        "import cstl_edge.live.pipeline.run, cstl_edge.cli.app\n"
        "cstl_edge.load().close()\n"
        "loaded = {'torch', 'tensorrt', 'onnx'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
