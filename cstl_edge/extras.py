"""How an optional part is installed, by where this package came from."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cstl_edge.errors import MissingPackage

NAME = "cstl-edge"


def install_command(extra: str) -> str:
    """Return the command that installs an extra: from the checkout, a wheel, or the package index.

    pip writes down from where it installed (`direct_url.json`), and nothing for an index. Without
    any record the code runs from a checkout that is not installed.
    """
    from importlib.metadata import PackageNotFoundError, distribution  # late: it costs 40 ms

    try:
        text = distribution(NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return f'pip install "{_shown(Path(__file__).parents[1])}[{extra}]"'
    if text is None:
        return f'pip install "{NAME}[{extra}]"'
    record = json.loads(text)
    url, editable = record["url"], record.get("dir_info", {}).get("editable", False)
    if not url.startswith("file:"):
        vcs = record.get("vcs_info", {}).get("vcs")
        return f'pip install "{NAME}[{extra}] @ {f"{vcs}+" if vcs else ""}{url}"'
    place = _shown(Path(unquote(urlsplit(url).path)))
    return f'pip install {"-e " if editable else ""}"{place}[{extra}]"'


def missing_package(what: str, extra: str) -> MissingPackage:
    """Return the error of something that is not installed.

    what: what needs which package, such as `t-SNE needs scikit-learn`
    extra: of this package, which brings it
    """
    return MissingPackage(f"{what}, which is not installed", remedy=install_command(extra))


def _shown(place: Path) -> str:
    """Return a folder as a command takes it: `.` where it is the present one."""
    return "." if place == Path.cwd() else str(place)
