"""Signals end `live` whole; a second one ends it at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cstl_edge.cli.signals import SignalEnd

LIVE = "-m cstl_edge live synthetic://1?seconds=60&live=1&size=160x120 --segmenter background"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_run_whole(number: signal.Signals, tmp_path: Path) -> None:
    code = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL);"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler);"
    code += "from cstl_edge.cli.app import main; sys.exit(main())"
    words = [*LIVE.split()[2:], "--events", "e.jsonl", "--annotate", "v.mp4"]
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
    child = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    log = tmp_path / "e.jsonl"
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s and not (log.exists() and '"born"' in log.read_text()):
        assert child.poll() is None, child.stderr
        time.sleep(0.05)
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 128 + number, err
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert events.count("closed") == events.count("born") > 0
    assert b"frames at" in err
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names in (["e.jsonl", "v.mp4"], ["e.jsonl", "v.webm"])


def test_the_first_signal_asks_and_the_second_ends() -> None:
    asked: list[bool] = []
    before = signal.getsignal(signal.SIGTERM)
    with SignalEnd() as signals:
        signals.stop = lambda: asked.append(True)
        signal.raise_signal(signal.SIGTERM)
        assert asked == [True]
        with pytest.raises(SystemExit) as end:
            signal.raise_signal(signal.SIGHUP)
        assert end.value.code == 128 + signal.SIGTERM
        with pytest.raises(SystemExit):
            signals.finish()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_before_the_run_ends_the_verb() -> None:
    with SignalEnd(), pytest.raises(SystemExit) as end:
        signal.raise_signal(signal.SIGTERM)
    assert end.value.code == 143


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with SignalEnd():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
