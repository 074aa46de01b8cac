"""The state of the machine: clocks, temperatures, throttling, settings, load. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Watch:
    """Reads the state of this machine; what it does not have is absent."""

    def read(self) -> dict[str, Any]:
        """Return clocks, temperatures, settings and load as they are now."""
        return {}

    def between(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
        """Return what happened between two readings."""
        return {}

    def throttled(self, device: bool) -> bool:
        """Tell whether the machine throttled since it was last asked; `device`: its GPU too."""
        return False
