"""Python reference: the public names and the classes that they take and return."""

from __future__ import annotations

import ast

from source_text import (
    cell,
    class_of,
    code_cell,
    fields_of,
    function_of,
    markdown_of,
    signature,
)

FUNCTIONS = {  # public name: module
    "load": "cstl_edge.runtime.load",
    "read_walks": "cstl_edge.live.api",
    "watch": "cstl_edge.live.api",
    "read_silhouettes": "cstl_edge.silhouette",
}
CLASSES = {  # public name: its class, then those that it takes methods from
    "Gallery": [
        ("cstl_edge.gallery.gallery", "Gallery"),
        ("cstl_edge.gallery.administration", "Administration"),
    ]
}
RECORDS = {  # what they take and return
    "PipelineOptions": "cstl_edge.live.pipeline.options",
    "SourceOptions": "cstl_edge.live.sources.options",
    "WalkOrigin": "cstl_edge.gallery.records",
    "GalleryKey": "cstl_edge.gallery.keys",
    "TrackRecord": "cstl_edge.live.pipeline.options",
    "Event": "cstl_edge.live.events",
    "Decision": "cstl_edge.gallery.match",
    "EnrolledPerson": "cstl_edge.gallery.people",
    "EncoderInfo": "cstl_edge.runtime.base",
}
PROTOCOLS = {
    "Encoder": "cstl_edge.runtime.base",
    "Segmenter": "cstl_edge.live.segmentation.base",
}
HEAD = """# Python

Made from the code by `python docs/scripts/reference.py`. These names are stable
([Versions](../versions.md)); the public ones are used as `import cstl_edge as ce`. Letters of axes:
`n` sequences, `s` frames, `h w` pixels, `p` parts, `c` channels, `d` embedding dimensions, `k`
windows of one walk.
"""


def python_page() -> str:
    """Return the page."""
    parts = [HEAD, "## Functions\n"]
    parts += [_function(name, module) for name, module in FUNCTIONS.items()]
    parts += [_class(name, homes) for name, homes in CLASSES.items()]
    parts.append("## Records\n")
    parts += [_record(name, module) for name, module in RECORDS.items()]
    parts.append(
        "## Protocols\n\nWhat a part of your own implements: [Adding a part](../extending.md).\n"
    )
    parts += [_class(name, [(module, name)], level=3) for name, module in PROTOCOLS.items()]
    parts += ["## Errors\n", ERRORS]
    return "\n".join(parts)


ERRORS = """Every error that is raised on purpose is a `cstl_edge.errors.CstlEdgeError` with
`message`, `remedy`, `code` and `exit_code`; the kinds are listed under
[Exit codes](../events.md#exit-codes).
"""


def _function(name: str, module: str) -> str:
    node = function_of(module, name)
    text = markdown_of(ast.get_docstring(node))
    return f"### {name}\n\n```text\n{signature(node, f'ce.{name}')}\n```\n\n{text}\n"


def _class(name: str, homes: list[tuple[str, str]], level: int = 2) -> str:
    nodes = [class_of(module, home)[0] for module, home in homes]
    parts = [f"{'#' * level} {name}\n", f"{markdown_of(ast.get_docstring(nodes[0]))}\n"]
    for item in (item for node in nodes for item in node.body):
        if not isinstance(item, ast.FunctionDef) or item.name.startswith("_"):
            continue
        decorators = {ast.unparse(d) for d in item.decorator_list}
        owner = name if "classmethod" in decorators else name[0].lower() + name[1:]
        call = f"{owner}.{item.name}"
        shown = (
            f"{call}: {ast.unparse(item.returns)}"
            if "property" in decorators and item.returns
            else signature(item, call, method=True)
        )
        parts.append(f"{'#' * (level + 1)} {name}.{item.name}\n\n```text\n{shown}\n```\n")
        parts.append(f"{markdown_of(ast.get_docstring(item))}\n")
    return "\n".join(parts)


def _record(name: str, module: str) -> str:
    node, _ = class_of(module, name)
    rows = [
        f"| `{f.name}` | {code_cell(f.type)} | {code_cell(f.default)} | {cell(f.meaning)} |"
        for f in fields_of(module, name)
    ]
    table = "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows])
    return f"### {name}\n\n{markdown_of(ast.get_docstring(node))}\n\n{table}\n"
