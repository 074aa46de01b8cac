"""JSON Schema of the site's file, for editors and for the reference in the docs."""

from __future__ import annotations

import ast
import inspect
from typing import Any, get_args

from pydantic import BaseModel

from cstl_edge.serve.site import Site

DIALECT = "http://json-schema.org/draft-07/schema#"  # what language servers of YAML know
SCHEMA_NAME = "site.schema.json"  # in `assets/`


def site_schema() -> dict[str, Any]:
    """Return the JSON Schema of a site; `assets/site.schema.json` holds it."""
    schema = Site.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs")
    for model in models_of(Site):
        form = schema if model is Site else definitions[model.__name__]
        for name, meaning in meanings(model).items():
            key = model.model_fields[name].alias or name
            form["properties"][key]["description"] = meaning
    cleaned: dict[str, Any] = _draft7({**schema, "definitions": definitions})
    return {"$schema": DIALECT, "title": "cstl-edge serve: site", **cleaned}


def models_of(kind: Any) -> list[type[BaseModel]]:
    """Return a model and every model in it, each once."""
    found: dict[type[BaseModel], None] = {}

    def visit(kind: Any) -> None:
        is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
        if is_model and kind not in found:
            found[kind] = None
            for field in kind.model_fields.values():
                visit(field.annotation)
        for part in get_args(kind):
            visit(part)

    visit(kind)
    return list(found)


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what each field of a model means: the docstring below it in the source."""
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for item, following in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and item.target.id in model.model_fields:
                found[item.target.id] = " ".join(str(text.value).split())
    return found


def _draft7(value: Any) -> Any:
    """Return a part of a schema in the words of draft 7, without titles that repeat names."""
    if isinstance(value, list):
        return [_draft7(item) for item in value]
    if not isinstance(value, dict):
        return value
    out: dict[str, Any] = {}
    for key, item in value.items():
        if key == "prefixItems":
            out["items"] = _draft7(item)
        elif key == "$ref":
            out[key] = item.replace("#/$defs/", "#/definitions/")
        elif key == "description" and isinstance(item, str):
            out[key] = " ".join(item.split())
        elif not (key == "title" and isinstance(item, str)):
            out[key] = _draft7(item)
    return out
