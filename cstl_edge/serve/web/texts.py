"""Texts of the page: one JSON file, `static/texts.json`, for templates and modules alike."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"


@lru_cache(maxsize=1)
def texts() -> dict[str, str]:
    """Return every text by its key."""
    loaded: dict[str, str] = json.loads((STATIC / "texts.json").read_text(encoding="utf-8"))
    return loaded
