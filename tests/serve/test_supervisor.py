"""Supervisor: what lives, dies and lives again, without a single real process."""

import signal
from collections import deque

import pytest

from cstl_edge.errors import ConfigError, CstlEdgeError
from cstl_edge.serve import supervisor as supervisor_module
from cstl_edge.serve.messages import CameraState, Command, Detach, Reload, Reply, Stats, now
from cstl_edge.serve.restarts import RestartPolicy
from cstl_edge.serve.supervisor import Supervisor

CAMERAS = "cameras:\n  a: {source: synthetic://1}\n  b: {source: synthetic://2}\n"


class Control:
    def __init__(self):
        self.sent = []

    def send(self, message):
        self.sent.append(message)
        return True

    def attach(self, peer, end):
        self.sent.append(("attach", peer))
        end.close()


class Fake:
    """Stands for a ManagedProcess: dies when it is told to."""

    clock_s = 0.0
    born = deque()  # noqa: RUF012

    def __init__(self, plan, on_message, on_end):
        self.plan, self.on_message = plan, on_message
        self.policy = RestartPolicy(lambda: Fake.clock_s)
        self.control, self.phase, self.reason = None, "stopped", None
        self.alive = self.beaten = self.dying = False
        self.next_start_s, self.exit_code, self.lives = 0.0, 1, 0
        self.excused_s = 0.0

    name = property(lambda self: self.plan.name)
    due = property(lambda self: self.phase == "waiting" and Fake.clock_s >= self.next_start_s)

    def start(self):
        self.control, self.alive, self.beaten = Control(), True, False
        self.phase, self.lives = "running", self.lives + 1
        Fake.born.append(self.name)

    def beat(self):
        self.beaten = True

    def excuse(self, seconds):
        self.excused_s = seconds

    def die(self, reason):
        self.dying, self.reason = True, reason

    def check(self):
        pass

    def reap(self):
        if not self.dying:
            return False
        self.dying = self.alive = self.beaten = False
        self.phase = "stopped"
        return True

    def ask_to_end(self, within_s):
        if self.alive:
            self.dying = True

    kill = die_now = lambda self: self.die("killed")

    def plan_restart(self):
        delay_s = self.policy.died()
        if delay_s is None:
            self.phase = "off"
        else:
            self.phase, self.next_start_s = "waiting", Fake.clock_s + delay_s

    def state(self):
        from cstl_edge.serve.messages import ProcessState

        return ProcessState(self.name, self.phase, restarts=self.policy.total, reason=self.reason)


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(CAMERAS, encoding="utf-8")
    return path


@pytest.fixture
def service(site, monkeypatch):
    monkeypatch.setattr(supervisor_module, "ManagedProcess", Fake)
    monkeypatch.setattr(supervisor_module, "TICK_S", 0.0)
    Fake.clock_s = 0.0
    Fake.born.clear()
    supervisor = Supervisor(site)
    supervisor.begin()
    return supervisor


def beat(service, name):
    service._inbox.put((name, Stats(name, now())))
    service._turn()


def test_processes_start_in_order_and_are_linked(service):
    assert list(Fake.born) == ["front", "recogniser", "camera:a", "camera:b"]
    peers = [m[1] for m in service.processes["recogniser"].control.sent if isinstance(m, tuple)]
    assert peers == ["front", "camera:a", "camera:b"]


def test_a_dead_worker_lives_again_after_a_delay_and_the_others_do_not_notice(service):
    service.processes["camera:a"].die("killed by SIGKILL")
    service._turn()
    assert service.cameras["a"].reason == "killed by SIGKILL"
    assert not service.processes["camera:a"].alive
    Fake.clock_s += 1.1
    service._turn()
    assert service.processes["camera:a"].alive
    assert [service.processes[n].lives for n in ("front", "recogniser", "camera:b")] == [1, 1, 1]
    new = [m for m in service.processes["recogniser"].control.sent if m == ("attach", "camera:a")]
    assert len(new) == 2


def test_five_deaths_leave_a_worker_off_until_somebody_asks(service):
    for _ in range(5):
        Fake.clock_s += 60
        service._turn()
        service.processes["camera:b"].die("hung")
        service._turn()
    Fake.clock_s += 400
    service._turn()
    assert service.processes["camera:b"].phase == "off"
    assert service.cameras["b"].state == "off"
    told = [m for m in service.processes["recogniser"].control.sent if isinstance(m, CameraState)]
    assert told[-1].state == "off"
    service.restart("camera:b")
    assert service.processes["camera:b"].alive


def test_ready_means_that_every_camera_is_seen_or_explained(service):
    assert service.state().not_ready_reasons == (
        "recogniser: starting",
        "camera a: no picture yet",
        "camera b: no picture yet",
    )
    beat(service, "recogniser")
    for camera, state, reason in (("a", "online", None), ("b", "offline", "no frame for 20 s")):
        service._inbox.put((f"camera:{camera}", CameraState(camera, state, None, reason)))
    service._turn()
    assert service.state().ready


def test_the_page_is_told_as_soon_as_it_answers(site, monkeypatch):
    monkeypatch.setattr(supervisor_module, "ManagedProcess", Fake)
    told = []
    service = Supervisor(site, on_ready=told.append)
    service.begin()
    beat(service, "front")
    beat(service, "front")
    assert [one.name for one in told] == ["cstl-edge"]


def test_a_reload_restarts_only_what_changed(service, site):
    beat(service, "front")
    lives = {name: process.lives for name, process in service.processes.items()}
    site.write_text(CAMERAS.replace("synthetic://2", "synthetic://3") + "name: new\n")
    assert service.reload() is None
    service._turn()
    changed = {n for n, p in service.processes.items() if p.lives != lives[n]}
    assert changed == {"camera:b"}
    reloads = [m for m in service.processes["recogniser"].control.sent if isinstance(m, Reload)]
    assert reloads[-1].site.name == "new"


def test_cameras_come_and_go(service, site):
    site.write_text("cameras:\n  b: {source: synthetic://2}\n  c: {source: synthetic://1}\n")
    service.reload()
    service._turn()
    assert set(service.processes) == {"front", "recogniser", "camera:b", "camera:c"}
    assert Detach("camera:a") in service.processes["front"].control.sent
    assert "a" not in service.cameras
    assert service.processes["camera:b"].lives == 1


def test_a_camera_that_comes_back_at_once_is_no_death(service, site):
    site.write_text("cameras:\n  b: {source: synthetic://2}\n")
    service.reload()
    site.write_text(CAMERAS)
    service.reload()
    service._turn()
    process = service.processes["camera:a"]
    assert (process.alive, process.lives, process.policy.total) == (True, 2, 0)


def test_a_bad_file_changes_nothing_and_is_told(service, site):
    site.write_text(CAMERAS + "cameraz: 1\n")
    assert "site.yaml:4: unknown key 'cameraz'" in service.reload()
    service._turn()
    assert [p.lives for p in service.processes.values()] == [1, 1, 1, 1]
    assert "cameraz" in service.state().site_error
    site.write_text(CAMERAS)
    assert service.reload() is None
    assert service.state().site_error is None


def test_another_data_folder_needs_a_new_start(service, site):
    site.write_text(CAMERAS + "data: elsewhere\n")
    assert "needs a new start" in service.reload()
    assert service.site.data.name == "data"


def test_a_bad_file_at_the_start_is_safe_mode_and_a_good_one_ends_it(site, monkeypatch):
    monkeypatch.setattr(supervisor_module, "ManagedProcess", Fake)
    site.write_text(CAMERAS + "cameraz: 1\n")
    with pytest.raises(ConfigError, match=r"site.yaml:4: unknown key 'cameraz'"):
        Supervisor(site, strict=True)
    service = Supervisor(site)
    service.begin()
    assert service.safe
    assert list(service.processes) == ["front"]
    assert not service.state().ready
    site.write_text(CAMERAS)
    service.reload()
    service._turn()
    assert not service.safe
    assert set(service.processes) == {"front", "recogniser", "camera:a", "camera:b"}
    assert service.processes["front"].lives == 2  # with outputs and without the error


def test_a_model_that_is_not_there_is_safe_mode_too(site, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor_module, "ManagedProcess", Fake)
    site.write_text(CAMERAS + "model: nothing.safetensors\n")
    service = Supervisor(site)
    assert service.safe
    assert "nothing.safetensors" in service.site_error
    with pytest.raises(CstlEdgeError, match=r"nothing.safetensors"):
        Supervisor(site, strict=True)


def test_a_page_that_cannot_start_ends_the_service(service):
    front = service.processes["front"]
    front.exit_code = 2
    front.die("page: cannot listen on 127.0.0.1:80: Permission denied")
    with pytest.raises(CstlEdgeError, match="cannot listen") as caught:
        service._turn()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("service.restart", {"camera": "a"}, None),
        ("service.restart", {"camera": "zz"}, "not-found"),
        ("service.reload", {}, None),
        ("service.nonsense", {}, "not-found"),
    ],
)
def test_commands_of_the_page_are_answered(service, name, arguments, code):
    service._inbox.put(("front", Command("7", name, arguments, "admin")))
    service._turn()
    (reply,) = [m for m in service.processes["front"].control.sent if isinstance(m, Reply)]
    assert (reply.id, reply.ok, reply.code) == ("7", code is None, code)


def test_a_text_of_the_file_can_be_checked(service):
    text = {"text": "cameras:\n  a: {source: x, z: 1}\n"}
    service._inbox.put(("front", Command("8", "service.check", text, "admin")))
    service._turn()
    (reply,) = [m for m in service.processes["front"].control.sent if isinstance(m, Reply)]
    assert [problem["line"] for problem in reply.result] == [2]


def test_nobody_is_blamed_for_a_time_in_which_nothing_ran(service):
    service._turn()
    assert service.processes["front"].excused_s == 0.0
    service._turned_s -= 300.0  # a paused container, a stopped process group
    service._turn()
    assert {round(p.excused_s, -1) for p in service.processes.values()} == {300.0}


def test_the_end_asks_everybody_and_gives_the_signal_back(service):
    service._on_signal(signal.SIGTERM, None)
    service._end_all()
    assert not any(process.alive for process in service.processes.values())
    assert service._signal == signal.SIGTERM
