"""Reference of the site's file, from its models: every key, its type, default and meaning."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from source_text import cell, code_cell, sentence

from cstl_edge.serve.schema import site_schema
from cstl_edge.serve.site import Site

HEAD = """# The site's file

Made from the code by `python docs/scripts/reference.py`. What it is for is told in
[The service](../service.md); `cstl-edge config init` writes a commented one, `cstl-edge config
check` lists what is wrong with one. Relative paths count from the file's folder.

Editors know every key: `cstl-edge config schema > site.schema.json`, and as the first line of the
file `# yaml-language-server: $schema=site.schema.json`.
"""
NAMES = {dict: "NAME", tuple: "…"}


def site_page() -> str:
    """Return the page."""
    parts = [HEAD]
    whole = site_schema()
    for path, model in _groups(Site, ""):
        title = f"`{path}`" if path else "The whole"
        description = " ".join((model.__doc__ or "").split())
        definition = whole["definitions"].get(model.__name__, whole)
        rows = [
            _row(name, field, definition["properties"][field.alias or name])
            for name, field in model.model_fields.items()
        ]
        table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
        parts.append(f"## {title}\n\n{description}\n\n{table}\n")
    return "\n".join(parts)


def _row(name: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        shown = "(has to be given)"
    elif isinstance(default, BaseModel) or default in ((), {}):
        shown = ""
    else:
        shown = code_cell(
            "null"
            if default is None
            else str(default).lower()
            if isinstance(default, bool)
            else str(default)
        )
    limits = _limits(schema)
    meaning = sentence(str(schema.get("description", "")))
    text = f"{meaning} ({limits})" if limits else meaning
    return f"| `{field.alias or name}` | {cell(_kind(field.annotation))} | {shown} | {cell(text)} |"


def _limits(schema: dict[str, Any]) -> str:
    """Return the limits of a number in signs."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    forms = [schema, *schema.get("anyOf", [])]
    return ", ".join(
        f"{sign} {form[key]:g}" for form in forms for key, sign in signs.items() if key in form
    )


def _kind(kind: Any) -> str:
    """Return a type in the words of YAML."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in inner if part is not type(None))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin is not None and hasattr(kind, "__metadata__"):
        return _kind(inner[0])
    if origin is dict:
        return f"{_kind(inner[1])}s by name"
    if origin is tuple:
        return f"list of {_kind(inner[0])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "group"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(kind, "path" if getattr(kind, "__name__", "") == "Path" else "text")


def _groups(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield a group and all groups in it, by their place in the file."""
    yield path, model
    for name, field in model.model_fields.items():
        place = f"{path}.{field.alias or name}" if path else field.alias or name
        for inner, step in _models(field.annotation):
            yield from _groups(inner, f"{place}{step}")


def _models(kind: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the groups that a kind of value holds, and the step to each."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind, ""
        return
    step = f".{NAMES[get_origin(kind)]}" if get_origin(kind) in NAMES else ""
    for part in get_args(kind):
        for inner, further in _models(part):
            yield inner, f"{step}{further}"
