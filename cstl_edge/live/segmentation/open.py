"""TODO."""

from __future__ import annotations

from cstl_edge.errors import ConfigError
from cstl_edge.live.segmentation.base import Segmenter

SEGMENTERS = ("roi", "plate")  # the first is the default


def make_segmenter(name: str = SEGMENTERS[0], *, threads: int = 1) -> Segmenter:
    """Return a segmenter by its name; raises ConfigError for a name that is none."""
    from cstl_edge.live.segmentation.background import PlateSegmenter

    if name == "plate":
        return PlateSegmenter()
    if name == "roi":
        from cstl_edge.live.segmentation.person_mask import RoiSegmenter

        return RoiSegmenter(PlateSegmenter(), threads=threads)
    raise ConfigError(f"no segmenter named {name!r}; expected one of {', '.join(SEGMENTERS)}")
