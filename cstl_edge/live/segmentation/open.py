"""Table of segmenters by name, and `open_segmenter`.

To add one, write a module with a function `open_…(threads: int) -> Segmenter` and add a line here;
another package adds its own as an entry point of the group `cstl_edge.segmenters`.
"""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cstl_edge.registry import Entry, Registry

if TYPE_CHECKING:  # the command line reads this table before anything heavy is imported
    from cstl_edge.live.segmentation.base import Segmenter

SEGMENTERS = Registry(
    "segmenter",
    {
        "auto": Entry(
            "cstl_edge.live.segmentation.auto:open_auto",
            "person-mask for as many people as the time allows, background for the others",
        ),
        "person-mask": Entry(
            "cstl_edge.live.segmentation.person_mask:open_person_mask",
            "a small network masks people",
        ),
        "background": Entry("cstl_edge.live.segmentation.background:open_background", "no weights"),
        "auto-small": Entry(
            "cstl_edge.live.segmentation.auto:open_auto_small",
            "auto with a network of a fifth of the cost and rougher masks",
        ),
        "person-mask-small": Entry(
            "cstl_edge.live.segmentation.person_mask:open_person_mask_small",
            "person-mask with that network",
        ),
    },
    aliases={"roi": "person-mask", "plate": "background"},
    group="cstl_edge.segmenters",
)
DEFAULT_SEGMENTER = "auto"
WALKER_FPS = 12.5  # masks of a walker per second: more gain nothing (benchmarks/frame_rate.py)


def is_network(name: str) -> bool:
    """Tell whether a segmenter is named by the manifest of a mask network, a .json file."""
    return name.endswith(".json")


def masks_everybody(name: str) -> bool:
    """Tell whether a segmenter finds people by their masks, which cost nothing more then."""
    return not is_network(name) and SEGMENTERS.canonical(name) == "background"


def check_segmenter(name: str) -> None:
    """Refuse a name that is none (ConfigError); a manifest is read when it is opened."""
    if not is_network(name):
        SEGMENTERS.canonical(name)


def open_segmenter(
    name: str = DEFAULT_SEGMENTER, *, threads: int = 1, model: Path | None = None
) -> Segmenter:
    """Return a new segmenter.

    Args:
        name: Of the table, an alias, or of another package; or the manifest of a mask network,
            which `person-mask` then runs.
        threads: Number of threads that it may use at once.
        model: Exported model whose TensorRT engines are in use: the engine of the mask network
            lies beside them. Given to segmenters that take it.

    Raises ConfigError for a name that is none, BackendUnavailable for a package that cannot be
    imported, ModelError for weights that cannot be loaded.
    """
    opener = SEGMENTERS.load("person-mask" if is_network(name) else name)
    settings: dict[str, Any] = {"threads": threads}
    settings |= {"network": Path(name)} if is_network(name) else {}
    if model is not None and "model" in signature(opener).parameters:
        settings["model"] = model
    segmenter: Segmenter = opener(**settings)
    return segmenter
