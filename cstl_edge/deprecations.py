"""What is deprecated, what to use instead, and the version in which it goes.

A name stays for two minor versions after the one that deprecated it (docs/versions.md). A test
fails once its time is over: then remove the name, its line here, and its tests.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

log = logging.getLogger(__name__)


class Deprecation(NamedTuple):
    """One name that will go."""

    name: str  # as a user writes it
    instead: str
    since: str  # version that deprecated it
    goes: str  # version that no longer has it


DEPRECATED = {
    entry.name: entry
    for entry in (
        Deprecation("--segmenter roi", "--segmenter person-mask", "0.1", "0.3"),
        Deprecation("--segmenter plate", "--segmenter background", "0.1", "0.3"),
        Deprecation("--schema 1", "--schema 2", "0.1", "0.3"),
    )
}
_noted: set[str] = set()


def note_deprecated(name: str) -> None:
    """Warn of a deprecated name, once in a process; names that are not listed are ignored.

    >>> note_deprecated("--segmenter person-mask")
    """
    entry = DEPRECATED.get(name)
    if entry is not None and name not in _noted:
        _noted.add(name)
        log.warning(
            "%s is deprecated since %s and goes in %s: use %s",
            entry.name, entry.since, entry.goes, entry.instead,
        )  # fmt: skip
