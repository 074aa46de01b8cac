"""Real processes: they start, talk, link, die and tell why; what hangs or grows is killed."""

import os
import queue
import signal
import time

import pytest

from cstl_edge.serve.link import pair
from cstl_edge.serve.messages import Reply, Stats, Watch
from cstl_edge.serve.process import FIRST_BEAT_S, ManagedProcess, ProcessPlan, cpu_seconds

WITHIN_S = 60.0


class Life:
    """A managed process whose messages are kept."""

    def __init__(self, name, entry, arguments=(), **plan):
        values = {"hang_s": 1e6, "memory_bytes": 2**40} | plan
        self.messages = queue.Queue()
        self.clock_s = 0.0
        self.process = ManagedProcess(
            ProcessPlan(name, entry, arguments, **values),
            on_message=self.take,
            on_end=lambda peer: None,
            clock=lambda: self.clock_s,
        )
        self.process.start()

    def take(self, peer, message):
        if isinstance(message, Stats):
            self.process.beat()
        self.messages.put(message)

    def until(self, kind):
        while True:
            message = self.messages.get(timeout=WITHIN_S)
            if isinstance(message, kind):
                return message

    def buried(self):
        deadline = time.monotonic() + WITHIN_S
        while not self.process.reap():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self.process.reason


@pytest.fixture
def life():
    lives = []

    def start(*args, **plan):
        lives.append(Life(*args, **plan))
        return lives[-1]

    yield start
    for one in lives:
        one.process.kill()
        if one.process.alive:
            one.buried()


def test_two_processes_talk_and_one_tells_why_it_ends(life):
    a, b = (life(name, "standin_child:echo", (f"I am {name}",)) for name in ("a", "b"))
    assert {a.until(Stats).process, b.until(Stats).process} == {"a", "b"}
    a.process.control.send(Reply("1", True))
    assert a.until(Reply).result == "I am a"
    ours, theirs = pair()
    a.process.control.attach("b", ours)
    b.process.control.attach("a", theirs)
    state = a.process.state()
    assert state.state == "running"
    assert cpu_seconds(state.pid) > 0
    a.process.control.send(Watch("door", 1.0))
    assert a.buried() == "no camera door; I am a"
    assert a.process.exit_code == 2
    b.process.ask_to_end(4.0)
    assert b.buried() == "ended with exit code 0"


def test_a_hung_process_is_killed_and_so_is_one_that_does_not_end(life):
    hung, stubborn = life("x", "standin_child:deaf", hang_s=20.0), life("y", "standin_child:deaf")
    for one in (hung, stubborn):
        one.until(Stats)
    hung.clock_s = 19.0
    hung.process.check()
    assert hung.process._broken is None
    hung.clock_s = 319.0
    hung.process.excuse(300.0)
    hung.process.check()
    assert hung.process._broken is None
    hung.clock_s = 321.0
    hung.process.check()
    assert hung.buried() == "hung: no sign of life for 20 s"
    os.kill(stubborn.process.state().pid, signal.SIGSTOP)
    stubborn.process.ask_to_end(4.0)
    stubborn.clock_s = 5.0
    stubborn.process.check()
    assert stubborn.buried() == "killed by SIGKILL"


def test_a_process_that_grows_is_ended_and_one_that_starts_slowly_is_not(life):
    grown = life("x", "standin_child:echo", ("",), memory_bytes=2**20, hang_s=1.0)
    grown.clock_s = FIRST_BEAT_S - 1
    grown.process._checked_s = grown.clock_s
    grown.process.check()
    assert grown.process._broken is None
    grown.until(Stats)
    grown.process._checked_s = -10.0
    grown.process.check()
    assert grown.buried().startswith("grew to ")
    assert grown.process.reason.endswith("its limit is 1 MiB")
