"""Import of cv2, quiet, or an error that says how to install it."""

from __future__ import annotations

import os
from typing import Any

from cstl_edge.errors import MissingPackage, one_line
from cstl_edge.extras import install_command


def import_cv2() -> Any:
    """Return the module cv2, with FFmpeg's own messages off; raises MissingPackage."""
    # FFmpeg reads this once, at the first capture; -8 is AV_LOG_QUIET: our errors say what is wrong
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as err:
        if not isinstance(err, ModuleNotFoundError) or err.name != "cv2":
            raise MissingPackage(
                f"cv2, which reads video, is installed and cannot be loaded: {one_line(err)}",
                remedy="install the library that it names (libGL.so.1: apt install libgl1), or "
                "opencv-python-headless in the place of opencv-python, which needs no display",
            ) from err
        raise MissingPackage(
            "reading video needs cv2, which is not installed",
            remedy=f"{install_command('cv')} (on a Jetson: apt install python3-opencv, in an "
            "environment that sees system packages)",
        ) from err
    return cv2
