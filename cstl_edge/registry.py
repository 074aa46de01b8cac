"""Tables of implementations by name, each imported at its first use.

Every kind of thing that can be added (segmenters, sources, backends, dataset layouts, scenarios)
has one `Registry` in the `open` or `load` module of its package. Adding one is a file and a line:

    SEGMENTERS = Registry("segmenter", {
        "background": Entry("cstl_edge.live.segmentation.background:open_background", "no weights"),
    })

A target may be any object, "module:object": most are functions, a dataset layout is a record.
Help texts, `doctor`, error messages and the benchmark suite read the same table.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from cstl_edge.deprecations import note_deprecated
from cstl_edge.errors import BackendUnavailable, ConfigError, one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Entry(NamedTuple):
    """One implementation."""

    target: str  # "module:object", any object of it: a function, a class, a record
    summary: str = ""  # a few words for help texts


class Registry:
    """Implementations of one kind by name, in the order in which they are shown."""

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, Entry],
        *,
        aliases: Mapping[str, str] | None = None,
        group: str | None = None,
    ) -> None:
        """Hold a table.

        Args:
            kind: Noun for one of them in messages, e.g. `segmenter`.
            entries: Implementations by name.
            aliases: Older names, which keep working, and the names that they mean now.
            group: Entry points by which other packages add theirs: `cstl_edge.segmenters`.
        """
        self.kind, self.group = kind, group
        self.entries = dict(entries)
        self.aliases = dict(aliases or {})

    def __iter__(self) -> Iterator[str]:
        """Yield the names: our own, then those of other packages."""
        yield from self.entries
        yield from (name for name in self._foreign() if name not in self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.aliases or name in self.entries or name in self._foreign()

    def canonical(self, name: str) -> str:
        """Return the name that a name or an alias stands for (ConfigError)."""
        known = self.aliases.get(name, name)
        if known in self:
            if name in self.aliases:
                note_deprecated(f"--{self.kind} {name}")
            return known
        near = difflib.get_close_matches(name, [*self, *self.aliases], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        expected = f"expected a {self.kind} of {', '.join(self)}"
        raise ConfigError(f"{expected}; got {one_line(name)!r}{hint}")

    def load(self, name: str) -> Any:
        """Return what a name or an alias stands for: the imported object.

        Raises ConfigError for a name that is none, BackendUnavailable where another package's
        entry point cannot be imported.
        """
        name = self.canonical(name)
        if name in self.entries:
            module, _, attribute = self.entries[name].target.partition(":")
            return getattr(import_module(module), attribute)
        try:
            return self._foreign()[name].load()
        except Exception as err:  # another package's code: anything may come
            foreign = f"{self.kind} {name} of another package"
            raise BackendUnavailable(f"{foreign} cannot be imported: {one_line(err)}") from err

    def help(self) -> str:
        """Return our own names with their summaries in one line, for help texts.

        Those of other packages are left out: to list them costs 50 ms at every start.

        >>> Registry("segmenter", {"plain": Entry("a:b", "no weights"), "x": Entry("c:d")}).help()
        'plain (no weights), x'
        """
        return ", ".join(
            f"{name} ({entry.summary})" if entry.summary else name
            for name, entry in self.entries.items()
        )

    def _foreign(self) -> dict[str, EntryPoint]:
        """Return the entry points of other packages by name."""
        from importlib.metadata import entry_points  # late: it costs 40 ms of every help text

        points = entry_points(group=self.group) if self.group else ()
        return {point.name: point for point in points}
