"""Links: messages and descriptors pass between two ends, and the end of one is told."""

import threading

import pytest

from cstl_edge.serve.link import Link, pair
from cstl_edge.serve.messages import Attach, Reply, TracksEnded

WITHIN_S = 30.0


class End:
    """A link that remembers."""

    def __init__(self, name, connection):
        self.got, self.came, self.gone = [], threading.Semaphore(0), threading.Event()
        self.link = Link(name, connection, self._take, lambda peer: self.gone.set())
        self.link.start()

    def _take(self, peer, message):
        if isinstance(message, Attach):
            message = message, self.link.receive_end()
        self.got.append(message)
        self.came.release()

    def wait(self, count=1):
        for _ in range(count):
            assert self.came.acquire(timeout=WITHIN_S)


@pytest.fixture
def ends():
    here, there = pair()
    two = End("b", here), End("a", there)
    yield two
    for end in two:
        end.link.close()


def test_messages_pass_in_order_both_ways(ends):
    a, b = ends
    for number in range(50):
        assert a.link.send(Reply(str(number), True))
        assert b.link.send(TracksEnded("door", "r", (number,)))
    b.wait(50)
    a.wait(50)
    assert [message.id for message in b.got] == [str(n) for n in range(50)]
    assert [message.closed for message in a.got] == [(n,) for n in range(50)]


def test_the_end_of_another_pipe_can_be_sent(ends):
    a, b = ends
    ours, theirs = pair()
    a.link.send(Reply("before", True))
    a.link.attach("c", theirs)
    a.link.send(Reply("after", True))
    b.wait(3)
    (attach, end) = b.got[1]
    assert (b.got[0].id, attach.peer, b.got[2].id) == ("before", "c", "after")
    end.send("hello")
    assert ours.recv() == "hello"
    assert theirs.closed
    end.close()
    with pytest.raises(EOFError):
        ours.recv()
    ours.close()


def test_the_end_of_a_peer_is_told_once(ends):
    a, b = ends
    a.link.send(Reply("last", True))
    a.link.close(flush_s=WITHIN_S)
    b.wait()
    assert b.got[-1].id == "last"
    assert b.gone.wait(WITHIN_S)
    assert b.link.ended
    assert not b.link.send(Reply("late", True))


def test_a_peer_that_does_not_read_holds_nobody_up():
    here, there = pair()
    link = Link("b", here, lambda *_: None, lambda _: None).start()
    for number in range(200):
        link.send(Reply(str(number), True, "x" * 10_000))  # more than the pipe holds
    link.close()
    there.close()
