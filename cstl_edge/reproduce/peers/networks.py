"""Table of the peers by name, at their published widths for CASIA-B."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.reproduce.peers.blocks import Peer
from cstl_edge.reproduce.peers.gaitpart import GaitPart
from cstl_edge.reproduce.peers.gaitset import GaitSet
from cstl_edge.reproduce.peers.gln import Gln
from cstl_edge.reproduce.peers.mt3d_style import Mt3dStyle

PEERS: Mapping[str, type[Peer]] = {
    "gaitset": GaitSet,
    "gaitpart": GaitPart,
    "gln": Gln,
    "mt3d-style": Mt3dStyle,
}


def build_peer(name: str, settings: Mapping[str, Any]) -> Peer:
    """Build a peer, its first weights drawn from torch's generator.

    Args:
        name: Key of PEERS.
        settings: Arguments of its class, such as `widths`; the published ones where it is empty.

    Raises:
        ConfigError: An unknown name or argument.
    """
    if name not in PEERS:
        raise ConfigError(f"expected a network of {', '.join(PEERS)}; got {one_line(name)!r}")
    try:
        return PEERS[name](**settings)
    except (TypeError, ValueError) as err:
        raise ConfigError(f"network {name}: {one_line(err)}") from err
