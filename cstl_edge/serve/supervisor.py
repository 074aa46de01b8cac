"""Supervisor of the service: starts, watches, restarts and ends its processes, and loads the site.

It computes nothing and reads no picture, so that it stays alive whatever happens to the others.
Its one thread of work is `run`; readers of the control links put what they get into its inbox.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from cstl_edge.errors import ConfigError, CstlEdgeError, one_line
from cstl_edge.serve.commands import ServiceCommands
from cstl_edge.serve.link import pair
from cstl_edge.serve.messages import (
    FRONT,
    RECOGNISER,
    CameraState,
    Command,
    Detach,
    Message,
    Reload,
    ServiceState,
    Stats,
    camera_of,
    now,
)
from cstl_edge.serve.notify import Systemd
from cstl_edge.serve.plans import enabled_cameras, plans_of
from cstl_edge.serve.process import ManagedProcess, ProcessPlan
from cstl_edge.serve.safe_mode import safe_site, site_or_error
from cstl_edge.serve.site import Site, load_site

log = logging.getLogger(__name__)

TICK_S = 0.1
STATE_EVERY_S = 1.0
WORKERS_END_S = 1.5  # that the end of the workers may take, before the recogniser is asked
ALL_END_S = 4.2  # from the signal to killing what is left
ASLEEP_S = 3.0  # a turn that takes longer was stopped with the machine, a container or a debugger
NEW_DATA = "another folder needs a new start: end the service and begin it again"
ENDING = (signal.SIGTERM, signal.SIGINT)


class Supervisor:
    """The processes of one site."""

    def __init__(
        self, path: Path, *, strict: bool = False, on_ready: Callable[[Site], None] = lambda _: None
    ) -> None:
        """Read the site; ConfigError where there is none, or it is wrong and `strict` is wanted.

        Args:
            path: The site's file.
            strict: Fail with a bad file, in place of a page that shows what is wrong.
            on_ready: Called once with the site when the page answers.
        """
        self.path = path
        if not path.exists():
            remedy = f"check its name, or begin one: cstl-edge config init {one_line(path)}"
            raise ConfigError(f"there is no file {one_line(path)}", remedy=remedy)
        site, self.site_error = site_or_error(path)
        if site is None and strict:
            load_site(path)
        self.safe = site is None
        self.site = site or safe_site(path)
        self._check_model(strict)
        self.cameras: dict[str, CameraState] = {}
        self.processes: dict[str, ManagedProcess] = {}
        # no SimpleQueue: under Python 3.10 its `get` can wait for ever in spite of a timeout
        self._inbox: queue.Queue[tuple[str, Message | None]] = queue.Queue()
        self._on_ready, self._ready_told = on_ready, False
        self._signal: int | None = None
        self._reload_wanted = threading.Event()
        self._restarting: set[str] = set()  # processes that are to live again at once
        self._retiring: set[str] = set()  # and those that are not
        self._state_sent_s = 0.0
        self._turned_s = time.monotonic()
        self._commands = ServiceCommands(self)
        self._systemd = Systemd()

    def _check_model(self, strict: bool) -> None:
        """Look at what is needed of the model; safe mode where there is none."""
        try:
            plans_of(self.site, safe=self.safe)
        except CstlEdgeError as err:
            if strict:
                raise
            self.safe, self.site_error = True, str(err)

    def begin(self) -> None:
        """Start the processes of the site."""
        for plan in plans_of(self.site, self.site_error, safe=self.safe):
            self._add(plan)

    def run(self) -> int | None:
        """Run until a signal; return its number, None after the end of the page.

        Raises:
            CstlEdgeError: The page cannot be started, or died too often.
        """
        before = {number: signal.signal(number, self._on_signal) for number in ENDING}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hangup)
        try:
            self.begin()
            while self._signal is None:
                self._turn()
        finally:
            self._systemd.send("STOPPING=1", "STATUS=ending")
            self._end_all()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._signal

    def stop(self) -> None:
        """Ask for the end, as SIGTERM does; from any thread."""
        self._signal = self._signal or signal.SIGTERM

    def reload(self) -> str | None:
        """Read the file again and change what it changes; return what is wrong with it, if so.

        With a bad file everything runs on as it is.
        """
        site, self.site_error = site_or_error(self.path)
        moved = site is not None and site.data != self.site.data
        if site is not None and moved:
            self.site_error = f"data: is now {site.data}; {NEW_DATA}"
        if site is None or moved:
            self._publish()
            return self.site_error
        was_safe, self.safe = self.safe, False
        try:
            plans = plans_of(site)
        except CstlEdgeError as err:
            self.safe, self.site_error = was_safe, str(err)
            self._publish()
            return self.site_error
        self.site = site
        self._apply({plan.name: plan for plan in plans})
        return None

    def restart(self, name: str) -> None:
        """Start a process again, also one that is off (KeyError)."""
        process = self.processes[name]
        process.policy.forgive()
        if process.alive:
            self._restarting.add(name)
            process.ask_to_end(ALL_END_S)
        else:
            self._start(process)

    def state(self) -> ServiceState:
        """Return what page and outputs are told."""
        reasons = tuple(self._not_ready())
        return ServiceState(
            utc=now(),
            processes=tuple(process.state() for process in self.processes.values()),
            cameras=dict(self.cameras),
            site_error=self.site_error,
            ready=not reasons,
            not_ready_reasons=reasons,
            stopping=self._signal is not None,
        )

    def _turn(self) -> None:
        """Do what there is to do, and wait a moment."""
        self._take_messages(TICK_S)
        if self._reload_wanted.is_set():
            self._reload_wanted.clear()
            self._systemd.send("STATUS=reading the site's file again")
            error = self.reload()
            if error is not None:
                log.warning("the site stays as it is: %s", error)
        self._excuse_sleep()
        for process in list(self.processes.values()):
            process.check()
            if process.reap():
                self._after_death(process)
            elif process.due:
                self._start(process)
        if time.monotonic() - self._state_sent_s >= STATE_EVERY_S:
            self._publish()
            self._tell_systemd()

    def _excuse_sleep(self) -> None:
        """Blame nobody for the time in which this process did not run either."""
        now_s = time.monotonic()
        asleep_s, self._turned_s = now_s - self._turned_s, now_s
        if asleep_s > ASLEEP_S:
            log.warning("nothing ran for %.0f s", asleep_s)
            for process in self.processes.values():
                process.excuse(asleep_s)

    def _take_messages(self, timeout_s: float) -> None:
        try:
            peer, message = self._inbox.get(timeout=timeout_s)
            while True:
                self._take(peer, message)
                peer, message = self._inbox.get_nowait()
        except queue.Empty:
            pass

    def _take(self, peer: str, message: Message | None) -> None:
        process = self.processes.get(peer)
        if isinstance(message, Stats) and process is not None:
            first = not process.beaten
            process.beat()
            if first and peer == FRONT and not self._ready_told:
                self._ready_told = True
                self._systemd.send("READY=1")
                self._on_ready(self.site)
        elif isinstance(message, CameraState):
            self.cameras[message.camera] = message
            self._publish()
        elif isinstance(message, Command) and process is not None and process.control is not None:
            process.control.send(self._commands.answer(message))

    def _add(self, plan: ProcessPlan) -> None:
        process = ManagedProcess(
            plan,
            on_message=lambda peer, message: self._inbox.put((peer, message)),
            on_end=lambda peer: self._inbox.put((peer, None)),
        )
        self.processes[plan.name] = process
        self._start(process)

    def _start(self, process: ManagedProcess) -> None:
        """Start a life and link it with its peers."""
        camera = camera_of(process.name)
        if camera is not None:
            self._set_camera(CameraState(camera, "starting"))
        process.start()
        for name in self._peers_of(process.name):
            peer = self.processes.get(name)
            if peer is not None and peer.alive and peer.control and process.control:
                ours, theirs = pair()
                process.control.attach(name, ours)
                peer.control.attach(process.name, theirs)

    def _peers_of(self, name: str) -> list[str]:
        """Return the processes that one has links to."""
        if camera_of(name) is not None:
            return [RECOGNISER, FRONT]
        other = FRONT if name == RECOGNISER else RECOGNISER
        return [other, *(peer for peer in self.processes if camera_of(peer) is not None)]

    def _after_death(self, process: ManagedProcess) -> None:
        """Start a process that died again, or not."""
        name, camera = process.name, camera_of(process.name)
        if name in self._retiring:
            self._retiring.discard(name)
            del self.processes[name]
        elif name in self._restarting:
            self._restarting.discard(name)
            process.reason = None  # it was asked to end
            self._start(process)
            return
        else:
            process.plan_restart()
            log.warning("%s: %s", name, process.reason)
            if name == FRONT and (process.phase == "off" or not self._ready_told):
                error = CstlEdgeError(f"the page ended: {process.reason}")
                error.exit_code = process.exit_code
                raise error
            if camera is not None:
                state = "off" if process.phase == "off" else "starting"
                self._set_camera(CameraState(camera, state, None, process.reason))  # type: ignore[arg-type]
        self._publish()

    def _set_camera(self, state: CameraState) -> None:
        """Tell the state of a camera whose worker cannot."""
        source = self.cameras[state.camera].source if state.camera in self.cameras else ""
        self.cameras[state.camera] = replace(state, source=source)
        recogniser = self.processes.get(RECOGNISER)
        if state.reason and recogniser is not None and recogniser.control is not None:
            recogniser.control.send(self.cameras[state.camera])

    def _apply(self, plans: dict[str, ProcessPlan]) -> None:
        """Change the processes to those of a new site."""
        for name, process in list(self.processes.items()):
            if name not in plans:
                self._retire(process)
        for name, plan in plans.items():
            existing = self.processes.get(name)
            if existing is None:
                self._add(plan)
                continue
            if name in self._retiring:  # it was gone for a moment, and is wanted again
                self._retiring.discard(name)
                self._restarting.add(name)
            same, existing.plan = existing.plan.identity == plan.identity, plan
            if not same:
                self.restart(name)
            elif name in (FRONT, RECOGNISER) and existing.control is not None:
                existing.control.send(Reload(self.site))
        self._publish()

    def _retire(self, process: ManagedProcess) -> None:
        """End a process for good."""
        camera = camera_of(process.name)
        if camera is not None:
            self.cameras.pop(camera, None)
            for name in (RECOGNISER, FRONT):
                peer = self.processes.get(name)
                if peer is not None and peer.control is not None:
                    peer.control.send(Detach(process.name))
        if process.alive:
            self._retiring.add(process.name)
            process.ask_to_end(ALL_END_S)
        else:
            del self.processes[process.name]

    def _publish(self) -> None:
        self._state_sent_s = time.monotonic()
        front = self.processes.get(FRONT)
        if front is not None and front.control is not None:
            front.control.send(self.state())

    def _not_ready(self) -> list[str]:
        """Return why the service is not ready: a camera that nobody has seen or explained."""
        if self.safe:
            return ["the site's file is wrong"]
        reasons = []
        recogniser = self.processes.get(RECOGNISER)
        if recogniser is None or not recogniser.beaten:
            why = recogniser.reason if recogniser is not None else None
            reasons.append(f"recogniser: {why or 'starting'}")
        for name in enabled_cameras(self.site):
            state = self.cameras.get(name)
            waiting = state is None or state.state in ("starting", "opening")
            if waiting and (state is None or not state.reason):
                reasons.append(f"camera {name}: no picture yet")
        return reasons

    def _tell_systemd(self) -> None:
        online = sum(state.state == "online" for state in self.cameras.values())
        status = f"{online} of {len(enabled_cameras(self.site))} cameras online"
        if self.site_error is not None:
            status = f"{status}; the site's file is wrong"
        self._systemd.send(f"STATUS={status}", "WATCHDOG=1")

    def _end_all(self) -> None:
        """End every process: workers and page first, then the recogniser with their last words."""
        self._publish()
        started_s = time.monotonic()
        for name, process in self.processes.items():
            if name != RECOGNISER:
                process.ask_to_end(ALL_END_S)
        self._wait_until(started_s + WORKERS_END_S, lambda name: camera_of(name) is not None)
        recogniser = self.processes.get(RECOGNISER)
        if recogniser is not None:
            recogniser.ask_to_end(ALL_END_S - WORKERS_END_S)
        self._wait_until(started_s + ALL_END_S, lambda name: True)
        for name, process in self.processes.items():
            if process.alive:
                log.warning("%s did not end within %g s and is killed", name, ALL_END_S)
            process.kill()
        self._wait_until(started_s + ALL_END_S + 1.0, lambda name: True)

    def _wait_until(self, deadline_s: float, counts: Callable[[str], bool]) -> None:
        """Wait for the end of some processes, until a time."""
        while time.monotonic() < deadline_s:
            for process in self.processes.values():
                process.reap()
            if not any(p.alive for name, p in self.processes.items() if counts(name)):
                return
            time.sleep(0.02)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._signal = self._signal or number

    def _on_hangup(self, number: int, frame: FrameType | None) -> Any:
        self._reload_wanted.set()
