"""Safe mode: the page of a site whose file is wrong, behind the door that the file describes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.serve.site import Site, check_site, site_of, where

DOOR = ("name", "data", "page")  # groups that the page needs
GROUP = re.compile(r"(?m)^(?=[^\s#])")


def site_or_error(path: Path) -> tuple[Site | None, str | None]:
    """Return the site of a file, or what is wrong with it, a line per fault."""
    try:
        site, problems = check_site(path)
    except ConfigError as err:
        return None, str(err)
    lines = [f"{where(path, problem)}: {problem.message}" for problem in problems]
    return site, "\n".join(lines) or None


def safe_site(path: Path) -> Site:
    """Return a site without cameras, with the door of a file that is wrong elsewhere.

    Each group of the file is read by itself, so that a mistake in another one changes nothing. A
    door that is wrong itself becomes the default: loopback alone, with a token.
    """
    values: dict[str, Any] = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for part in GROUP.split(text):
        if part.partition(":")[0].strip() not in DOOR:
            continue
        try:
            group = yaml.safe_load(part)
        except yaml.YAMLError:
            continue
        if isinstance(group, dict):
            values |= group
    for left_out in ((), ("page",), ("page", "name")):
        chosen = {key: value for key, value in values.items() if key not in left_out}
        site, _ = site_of(_without_cameras(chosen), path, text)
        if site is not None:
            return site
    raise ConfigError(f"{one_line(path)}: expected a folder as data", remedy="correct that line")


def _without_cameras(values: dict[str, Any]) -> dict[str, Any]:
    """Return the door of users who may see some cameras alone: now there are none."""
    page = values.get("page")
    if not isinstance(page, dict) or not isinstance(page.get("users"), list):
        return values
    users = [
        {**user, "cameras": None} if isinstance(user, dict) else user for user in page["users"]
    ]
    return {**values, "page": {**page, "users": users}}
