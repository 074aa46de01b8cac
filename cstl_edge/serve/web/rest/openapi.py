"""OpenAPI 3.1 description of REST, made from the table of operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from cstl_edge import __version__
from cstl_edge.serve.web.rest.operations import PREFIX, Operation

PROBLEM = {
    "type": "object",
    "description": "Problem details, RFC 9457.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Word for programs."},
    },
    "required": ["type", "title", "status", "code"],
}
REF = "#/components/schemas/{model}"
PART = re.compile(r"\{(\w+)(?::\w+)?\}")


def describe(operations: Sequence[Operation], root_path: str = "") -> dict[str, Any]:
    """Return the description of some operations.

    root_path: prefix under which a proxy shows the page
    """
    schemas: dict[str, Any] = {"Problem": PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = PART.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "cstl-edge serve", "version": __version__},
        "servers": [{"url": root_path + PREFIX}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return one operation's part; models go to `schemas`."""
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in PART.findall(operation.path)
    ]
    if operation.query is not None:
        model = _schema(operation.query, schemas, inline=True)
        required = model.get("required", ())
        for name, schema in model.get("properties", {}).items():
            text = schema.pop("description", "")
            parameters.append(
                {"name": name, "in": "query", "required": name in required, "schema": schema}
                | ({"description": text} if text else {})
            )
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": f"Role: {operation.role}.",
        "responses": {**_answer(operation, schemas), **_problems()},
    }
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        content = {"application/json": {"schema": _schema(operation.body, schemas)}}
        described["requestBody"] = {"required": True, "content": content}
    elif operation.upload:
        content = {"video/*": {"schema": {"type": "string", "format": "binary"}}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _answer(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    if operation.media_type is not None:
        return {"200": {"description": "OK", "content": {operation.media_type: {}}}}
    if operation.result is None:
        return {"204": {"description": "Done"}}
    schema = _schema(operation.result, schemas)
    return {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}}


def _problems() -> dict[str, Any]:
    schema = {"$ref": REF.format(model="Problem")}
    content = {"application/problem+json": {"schema": schema}}
    return {"default": {"description": "What is wrong", "content": content}}


def _schema(kind: Any, schemas: dict[str, Any], *, inline: bool = False) -> dict[str, Any]:
    """Return the schema of a type; the models in it go to `schemas`.

    Args:
        kind: Pydantic model, dataclass or another type.
        schemas: Models by name, which it adds to.
        inline: True to return a model itself, not a reference.
    """
    schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template=REF)
    for name, model in schema.pop("$defs", {}).items():
        schemas[name] = model
    title = schema.get("title")
    if inline or title is None or "properties" not in schema:
        return schema
    schemas[title] = schema
    return {"$ref": REF.format(model=title)}
