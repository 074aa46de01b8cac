"""Examples of every verb, printed by its help and in the reference of the docs.

A verb, as typed after `cstl-edge`, has commands and what each does. A test parses all of them.
"""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("cstl-edge demo", "See it work, without a camera."),
        (
            'cstl-edge enroll Ada ada.mp4 --consent "signed 2026-11-30"',
            "Add a person from a recording of one walk.",
        ),
        ("cstl-edge identify street.mp4", "Say who walks in a recording."),
        ("cstl-edge live 0", "Say who walks past the first USB camera, as it happens."),
    ),
}
