"""Exchange of the sums of cameras between a replica, where they are learned, and the server.

What changed on one side since the last exchange goes to the other; where both did, the later one
stays. A camera's name belongs to one box. What the last exchange left is noted beside the replica.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cstl_edge.gallery.camera_means import CameraMean, CameraMeans, camera_digest
from cstl_edge.gallery.replication import camera_tails, take_cameras
from cstl_edge.gallery.rows import Rows
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.store import GalleryStore
from cstl_edge.output import PRIVATE, write_file

TRIES = 5  # of one exchange
_Key = tuple[str, str]  # camera, and the hash of the model's weights


class CameraSync:
    """One exchange of the sums of all cameras."""

    def __init__(self, server: SealedRows, replica: Rows, clock: Callable[[], datetime]) -> None:
        """Use two open stores; `clock` gives the time in UTC."""
        self._server, self._replica = server, replica
        lock = threading.RLock()
        self._theirs = CameraMeans(GalleryStore(server, clock), lock)
        self._ours = CameraMeans(GalleryStore(replica, clock), lock)
        self._note = note_path(replica.path)

    def run(self) -> None:
        """Bring what was learned here to the server, then take over all that it has.

        A camera may be learned from or forgotten here meanwhile: then it is all done once more, and
        after TRIES by the next exchange.
        """
        before = self._read_note()
        for _ in range(TRIES):
            if self._exchange(before):
                return

    def _exchange(self, before: dict[str, str]) -> bool:
        """Exchange once; return whether nothing changed here meanwhile.

        before: what both sides were, as far as it is known; what is known then is added
        """
        unchanged = camera_tails(self._replica)
        theirs, ours = _by_key(self._theirs.all()), _by_key(self._ours.all())
        for key in {**theirs, **ours}:
            name = self._name(key)
            self._bring(key, before.get(name), theirs.get(key), ours.get(key))
        after = _by_key(self._theirs.all())
        taken = take_cameras(self._server, self._replica, unchanged)
        for key in {**theirs, **ours, **after}:
            state = _state(after.get(key))
            if taken is not None or state == _state(ours.get(key)):  # then both sides had it
                before.pop(self._name(key), None)
                before |= {} if state is None else {self._name(key): state}
        now = _by_key(self._ours.all())
        if taken is None or camera_tails(self._replica) != taken:
            return False
        note = {self._name(key): _state(mean) for key, mean in sorted(now.items())}
        write_file(self._note, json.dumps(note), mode=PRIVATE)
        return True

    def _name(self, key: _Key) -> str:
        """Return what stands for a camera in the note, where nobody may read its name."""
        return camera_digest(self._replica.seal, *key).hex()

    def _bring(
        self, key: _Key, before: str | None, theirs: CameraMean | None, ours: CameraMean | None
    ) -> None:
        """Bring a sum to the server where the one here is to stay.

        Args:
            key: Camera and model.
            before: What both were at the last exchange; None: not there.
            theirs: The server's sum.
            ours: The one of this replica.
        """
        if _state(theirs) == _state(ours) or _state(ours) == before:
            return  # equal, or changed on the server alone
        if ours is None:
            if _state(theirs) == before:
                self._theirs.forget_one(*key)
        elif _state(theirs) == before or theirs is None or ours.updated_utc >= theirs.updated_utc:
            self._theirs.save(ours)
            scatter = self._ours.load_scatter(*key)
            if scatter is not None:
                self._theirs.save_scatter(scatter)

    def _read_note(self) -> dict[str, str]:
        try:
            note = json.loads(Path(self._note).read_text(encoding="utf-8"))
            return {str(name): str(state) for name, state in note.items()}
        except (OSError, ValueError, AttributeError):
            return {}


def note_path(replica: Path) -> Path:
    """Return the path of the note of what the last exchange left."""
    return replica.with_name(replica.name + ".cameras")


def _by_key(means: tuple[CameraMean, ...]) -> dict[_Key, CameraMean]:
    return {(mean.camera, mean.weights_sha256): mean for mean in means}


def _state(mean: CameraMean | None) -> str | None:
    return None if mean is None else f"{mean.updated_utc} {mean.walks}"
