"""A validator of the part of JSON Schema that the event's schema uses."""

import json
import re
from datetime import datetime
from importlib.resources import files

SCHEMA = json.loads((files("cstl_edge") / "assets" / "event.schema.json").read_text("utf-8"))
TYPES = {"string": str, "integer": int, "number": (int, float), "null": type(None), "array": list}


def violations(event):
    """Return what is wrong with one event, key by key."""
    allowed = SCHEMA["properties"]
    wrong = [f"{key} is missing" for key in SCHEMA["required"] if key not in event]
    wrong += [f"{key} is not known" for key in event if key not in allowed]
    return wrong + [
        f"{key}: {value!r}" for key, value in event.items()
        if key in allowed and not _fits(value, allowed[key])
    ]  # fmt: skip


def _fits(value, form):
    unknown = set(form) - {
        "anyOf", "type", "const", "enum", "format", "description", "maxItems", "minItems",
        "prefixItems",
    }  # fmt: skip
    assert not unknown, f"the validator does not know {unknown}"
    if "anyOf" in form:
        return any(_fits(value, choice) for choice in form["anyOf"])
    if "type" in form and not isinstance(value, TYPES[form["type"]]):
        return False
    if isinstance(value, bool) or ("const" in form and value != form["const"]):
        return False
    if "enum" in form and value not in form["enum"]:
        return False
    if form.get("format") == "date-time":
        return bool(re.search(r"[+-]\d\d:\d\d$", value)) and bool(datetime.fromisoformat(value))
    if "prefixItems" in form:
        return len(value) == form["minItems"] == form["maxItems"] and all(
            map(_fits, value, form["prefixItems"])
        )
    return True
