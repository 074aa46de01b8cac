"""JSON Schema of the site's file, for editors, and a commented example of the file."""

from __future__ import annotations

from typing import Any

from cstl_edge.serve.site import Site

DIALECT = "http://json-schema.org/draft-07/schema#"  # what language servers of YAML know
SCHEMA_NAME = "site.schema.json"  # in `assets/`


def site_schema() -> dict[str, Any]:
    """Return the JSON Schema of a site; `assets/site.schema.json` holds it."""
    schema = Site.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs")
    cleaned: dict[str, Any] = _draft7({**schema, "definitions": definitions})
    return {"$schema": DIALECT, "title": "cstl-edge serve: site", **cleaned}


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
