"""The queue that trains the tables anew names rows and networks that exist, and every one once."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cstl_edge.training.presets import load_table

QUEUE = Path(__file__).parents[2] / "benchmarks" / "tables_queue.sh"


def rows(text):
    named = re.findall(r'^ *row (table\d) "([^$"]+)"', text, re.M)
    (loop,) = re.findall(r"^ *for name in (.+); do$", text, re.M)
    return named + [("table4", name) for name in re.findall(r'"([^"]+)"', loop)]


def test_rows_are_those_of_the_tables_each_network_once():
    queued = rows(QUEUE.read_text())
    assert queued[:2] == [("table3", "CSTL"), ("table3", "baseline")]  # what matters most
    for table, name in queued:
        load_table(table).row(name)
    wanted = set()
    for table in ("table3", "table4", "table5"):
        wanted |= {str(sorted(row.model.items())) for row in load_table(table).rows
                   if row.network == "cstl"}  # fmt: skip
    assert {str(sorted(load_table(t).row(n).model.items())) for t, n in queued} == wanted


def test_networks_are_those_of_the_comparison():
    pytest.importorskip("torch")
    from peers.networks import NETWORKS

    named = re.findall(r'^ *peers "\$seed" (.+)$', QUEUE.read_text(), re.M)
    queued = [name for line in named for name in re.findall(r'"([^"]+)"', line)]
    assert sorted(queued) == sorted(NETWORKS)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_script_has_no_syntax_errors():
    assert subprocess.run(["bash", "-n", str(QUEUE)], check=False).returncode == 0
