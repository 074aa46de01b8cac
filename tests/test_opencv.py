"""Import of cv2."""

from __future__ import annotations

import sys

import pytest

from cstl_edge.errors import MissingPackage
from cstl_edge.opencv import import_cv2


def test_a_cv2_that_cannot_be_loaded_is_not_called_missing(tmp_path, monkeypatch) -> None:
    broken = "raise ImportError('libGL.so.1: cannot open shared object file')"
    (tmp_path / "cv2.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    with pytest.raises(MissingPackage, match=r"cannot be loaded: libGL.*apt install libgl1"):
        import_cv2()


def test_without_cv2_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackage, match=r"pip install .*\[cv\]"):
        import_cv2()
