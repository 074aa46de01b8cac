"""The small form of the mutants: every parser reads its sound file and refuses damaged ones."""

import numpy as np
import pytest
from robustness.mutants import PARSERS, attempt, mutate

pytest.importorskip("torch")


@pytest.mark.parametrize("name", PARSERS)
def test_mutants_are_read_or_refused(tmp_path, name, caplog):
    content, suffix, read = PARSERS[name]()
    path = tmp_path / f"mutant{suffix}"
    path.write_bytes(content)
    assert attempt(read, path) == "read"
    rng, verdicts = np.random.default_rng(1), []
    for _ in range(30):
        path.write_bytes(mutate(content, rng))
        verdicts.append(attempt(read, path))
    assert set(verdicts) <= {"read", "refused"}
    assert "refused" in verdicts


def test_a_fault_is_seen(tmp_path):
    def read(path):
        raise RecursionError

    assert attempt(read, tmp_path).startswith("RecursionError")
