"""Registry of the peers: each network at the widths of one common cost, and as published.

The cost is multiply-adds of one sequence of 30 frames. CSTL's own is the reference; the others are
scaled by their widths until they are within 3 % of it. All give 64 dimensions per part there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.reproduce.peers.blocks import Peer
from cstl_edge.reproduce.peers.gaitpart import GaitPart
from cstl_edge.reproduce.peers.gaitset import GaitSet
from cstl_edge.reproduce.peers.gln import Gln
from cstl_edge.reproduce.peers.mt3d_style import Mt3dStyle
from peers.ablations import CstlOnGaitSet, OneColumn

FRAMES = 30  # of the sequence that costs are counted for
EMBEDDING = 64  # dimensions per part at the common cost
COMMON, PUBLISHED = "common cost", "published"  # widths
CSTL, NOTHING = "CSTL", "nothing"
CSTL_WIDTHS = (8, 16, 32, 32)  # at the common cost


@dataclass(frozen=True)
class Network:
    """A network of the comparison."""

    scaled: Callable[[int], nn.Module]
    """From the number of people (for a class head) to the network at the common cost."""
    published: Callable[[], nn.Module]  # at its published widths; ours where none are public
    widths: tuple[int, ...]  # channels at the common cost
    published_widths: tuple[int, ...]
    kept: str  # result of each frame of a live walker that is kept, so that it is computed once


def cstl(people: int, salient: bool = True) -> Cstl:
    """Return CSTL at the common cost, with the class head that supervises its SSFL."""
    classes = people if salient else 0
    config = CstlConfig(
        widths=CSTL_WIDTHS, parts=16, embedding=EMBEDDING, salient=salient, classes=classes
    )
    return Cstl(config)


def peer(kind: type[Peer], widths: tuple[int, ...], kept: str) -> Network:
    """Return a peer of three stages that gives as many dimensions as CSTL at the common cost.

    Args:
        kind: Class of the network.
        widths: Channels of the stages at the common cost.
        kept: Name of the result of each frame that a live walker keeps.
    """
    return Network(lambda _: kind(widths, embedding=EMBEDDING), kind, widths, (32, 64, 128), kept)


NETWORKS: Mapping[str, Network] = {
    CSTL: Network(cstl, Cstl, CSTL_WIDTHS, (32, 64, 128, 128), "part features"),
    "CSTL without SSFL": Network(
        lambda people: cstl(people, salient=False),
        lambda: Cstl(CstlConfig(salient=False)),
        CSTL_WIDTHS,
        (32, 64, 128, 128),
        "part features",
    ),
    "GaitSet": peer(GaitSet, (11, 22, 44), "maps of three stages"),
    "GaitPart": peer(GaitPart, (11, 22, 44), "part features"),
    "GLN": Network(
        lambda _: Gln((8, 16, 32), 72, EMBEDDING),
        Gln,
        (8, 16, 32, 72),
        (32, 64, 128, 256),
        "maps of three stages",
    ),
    "MT3D-style reconstruction": peer(Mt3dStyle, (3, 6, 14), NOTHING),
}


ABLATIONS: Mapping[str, Network] = {
    "GaitSet, one column": Network(
        lambda _: OneColumn(), OneColumn, (11, 22, 44), (11, 22, 44), "maps of the last stage"
    ),
    "CSTL on GaitSet's trunk": Network(
        CstlOnGaitSet, lambda: CstlOnGaitSet(0), (11, 22, 44), (11, 22, 44), "part features"
    ),
}
"""Networks between the two, trained and evaluated only."""


def network(name: str) -> Network:
    """Return a network or an ablation by its name; ConfigError that says which there are."""
    known = {**NETWORKS, **ABLATIONS}
    if name not in known:
        names = ", ".join(known)
        raise ConfigError(f"expected a network of {names}; got {one_line(name)!r}")
    return known[name]
