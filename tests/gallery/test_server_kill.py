"""Small form of benchmarks/robustness/server_kills.py: boxes and the server are killed."""

from pathlib import Path

import pytest
import robustness

pytest.importorskip("pgserver", reason="pgserver brings the PostgreSQL for tests")
pytest.importorskip("psycopg", reason="the extra postgres is not installed")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(next(iter(robustness.__path__)))))
    import server_kills

    monkeypatch.setattr(server_kills, "SERVER_EVERY", 2)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert server_kills.run(4, seed=1, out=None) == 0
