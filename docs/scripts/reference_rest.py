"""Reference of REST: every operation of the service, from the table that makes the routes."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from source_text import cell

HEAD = """# REST of the service

Made from the code by `python docs/scripts/reference.py`. The addresses are below `/api/v1` of the
page; [The service](../service.md#rest) says how to log in. `/api/v1/openapi.json` of a running
service is the same as OpenAPI 3.1. Errors are
[problem details](https://www.rfc-editor.org/rfc/rfc9457) with a `code` for programs.
"""


def rest_page() -> str:
    """Return the page."""
    from cstl_edge.serve.web.rest.openapi import describe
    from cstl_edge.serve.web.rest.table import OPERATIONS

    described = describe(OPERATIONS)
    parts = [HEAD]
    for tag, operations in groupby(OPERATIONS, key=lambda operation: operation.tag):
        rows = []
        for operation in operations:
            path = operation.path.replace(":path", "")
            form = described["paths"][path][operation.method.lower()]
            role = "–" if operation.role == "nobody" else operation.role
            rows.append(
                f"| `{operation.method} {path}` | {cell(operation.summary)} | {role} | "
                f"{_takes(form, described)} |"
            )
        table = ["| operation | what it does | role | takes |", "|---|---|---|---|", *rows]
        parts.append(f"## {tag.capitalize()}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


def _takes(form: dict[str, Any], described: dict[str, Any]) -> str:
    """Return the members of the body and the keys of the query of an operation."""
    query = [f"`?{p['name']}`" for p in form.get("parameters", ()) if p["in"] == "query"]
    content = form.get("requestBody", {}).get("content", {})
    body = []
    for kind, media in content.items():
        name = media["schema"].get("$ref", "").rpartition("/")[2]
        members = described["components"]["schemas"].get(name, {}).get("properties", {})
        body += [f"`{member}`" for member in members] or [f"a video (`{kind}`)"]
    return ", ".join([*body, *query])
