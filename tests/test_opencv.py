"""Import of cv2."""

from __future__ import annotations

import sys

import pytest

from cstl_edge.errors import MissingPackage
from cstl_edge.opencv import import_cv2


def test_without_cv2_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackage, match=r"pip install .*\[cv\]"):
        import_cv2()
