"""Table of segmenters by name, and `open_segmenter`.

To add one, write a module with a function `open_…(threads: int) -> Segmenter` and add a line here;
another package adds its own as an entry point of the group `cstl_edge.segmenters`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cstl_edge.registry import Entry, Registry

if TYPE_CHECKING:  # the command line reads this table before anything heavy is imported
    from cstl_edge.live.segmentation.base import Segmenter

SEGMENTERS = Registry(
    "segmenter",
    {
        "person-mask": Entry(
            "cstl_edge.live.segmentation.person_mask:open_person_mask",
            "a small network masks people",
        ),
        "background": Entry("cstl_edge.live.segmentation.background:open_background", "no weights"),
    },
    aliases={"roi": "person-mask", "plate": "background"},
    group="cstl_edge.segmenters",
)
DEFAULT_SEGMENTER = "person-mask"


def open_segmenter(name: str = DEFAULT_SEGMENTER, *, threads: int = 1) -> Segmenter:
    """Return a new segmenter.

    name: of the table, an alias, or of another package
    threads: that it may use at once
    Raises ConfigError for a name that is none, BackendUnavailable for a package that cannot be
    imported, ModelError for weights that cannot be loaded.
    """
    segmenter: Segmenter = SEGMENTERS.load(name)(threads=threads)
    return segmenter
