"""The front process: what page and outputs are given, and what becomes of their commands."""

import asyncio
import threading

import pytest

from cstl_edge.serve.front import Front
from cstl_edge.serve.messages import (
    RECOGNISER,
    SUPERVISOR,
    Command,
    EventMessage,
    LivePicture,
    ProcessState,
    Reload,
    Reply,
    ServiceState,
    Stats,
    Watch,
    now,
)
from cstl_edge.serve.site import CameraSettings, Site


class Child:
    def __init__(self):
        self.sent, self.away, self.stopping = [], set(), threading.Event()

    def send(self, peer, message):
        if peer in self.away:
            return False
        self.sent.append((peer, message))
        return True


@pytest.fixture
def front():
    site = Site(cameras={"door": CameraSettings(source="0")})
    return Front(Child(), site, None, safe=False)


def state(*names):
    return ServiceState(now(), tuple(ProcessState(n, "running") for n in names), {})


def ask(front, name, answer=None, timeout_s=30.0):
    async def run():
        waiting = asyncio.create_task(front.command(name, {"a": 1}, "ada", timeout_s=timeout_s))
        await asyncio.sleep(0)
        for _, command in front._child.sent:
            if isinstance(command, Command) and answer is not None:
                front.take(Reply(command.id, True, answer))
        return await waiting

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "peer"), [("people.rename", RECOGNISER), ("service.reload", SUPERVISOR)]
)
def test_a_command_goes_to_its_process_and_its_reply_comes_back(front, name, peer):
    reply = ask(front, name, answer={"done": 1})
    ((to, command),) = front._child.sent
    assert (to, command.name, command.user) == (peer, name, "ada")
    assert (reply.ok, reply.result) == (True, {"done": 1})
    assert front._replies == {}


def test_a_process_that_is_away_or_silent_is_an_answer_too(front):
    assert ask(front, "people.list", timeout_s=0.01).code == "timeout"
    front._child.away.add(RECOGNISER)
    assert ask(front, "people.list").code == "away"
    front.take(Reply("unknown", True))  # of somebody who waits no longer
    assert front._replies == {}


def test_a_wish_for_pictures_is_sent_once_in_a_while(front):
    for _ in range(5):
        front.watch("door", 5.0)
    front.watch("door", 2.0)
    front.watch("door", 2.0, "segmentation")
    wishes = [(m.fps, m.overlay) for _, m in front._child.sent if isinstance(m, Watch)]
    assert wishes == [(5.0, "boxes"), (2.0, "boxes"), (2.0, "segmentation")]
    front._child.away.add("camera:door")
    front.watch("door", 9.0)
    front._child.away.clear()
    front.watch("door", 9.0)  # nobody got the one before
    assert front._child.sent[-1][1].fps == 9.0


def test_the_newest_picture_is_there_until_it_is_old(front, monkeypatch):
    from cstl_edge.serve import front as module

    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    picture = LivePicture("door", b"jpeg", now(), 1, "boxes", (2, 2))
    front.take(picture)
    assert front.latest_picture("door") is picture
    assert front.latest_picture("door", "segmentation") is None
    clock[0] += 11
    assert front.latest_picture("door") is None


def test_a_camera_that_is_gone_leaves_nothing(front):
    front.take(LivePicture("door", b"jpeg", now(), 1, "boxes", (2, 2)))
    front.take(Stats("camera:door", now()))
    front.take(state("front", "camera:door"))
    assert front.latest_picture("door") is not None
    front.take(state("front"))
    assert front.latest_picture("door") is None
    assert front.stats() == {}


def test_subscribers_hear_until_they_leave_and_do_not_hurt_each_other(front, caplog):
    heard = []

    def fails(message):
        raise ValueError("a page that is broken")

    front.on_event(fails)
    leave = front.on_event(heard.append)
    event = EventMessage(1, {"event": "born"})
    front.take(event)
    leave()
    leave()
    front.take(event)
    assert heard == [event]
    assert "a page that is broken" in caplog.text


def test_a_reload_changes_the_site_for_everybody(front):
    sites = []
    front.on_site(sites.append)
    front.take(Reload(Site(name="new")))
    assert front.site.name == "new"
    assert sites == [front.site]
