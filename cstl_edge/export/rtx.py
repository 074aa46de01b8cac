"""TensorRT-RTX: engines for RTX cards, built ahead of time on a machine that has none.

It builds for compute capabilities 7.5 to 12.1 of RTX cards, not for Jetson nor for data-centre
cards, and knows no plugins: the part gather is its function body. It is also NVIDIA's own parser
and strongly typed builder, of the family of TensorRT 11, on any CPU. Which GPUs there are is the
library's word (`engine_build`). Running such engines is not part of this package.
"""

from __future__ import annotations

import re

from cstl_edge.errors import ConfigError, one_line


def sm_of_target(target: str) -> int:
    """Return the compute capability that a target names (ConfigError).

    >>> sm_of_target("rtx-sm89")
    89
    """
    found = re.fullmatch(r"rtx-sm(\d{2,3})", target)
    if found is None:
        raise ConfigError(
            f"expected a target of tensorrt, or rtx-sm and a number such as rtx-sm89; "
            f"got {one_line(target)!r}"
        )
    return int(found[1])
