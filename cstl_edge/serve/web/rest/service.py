"""REST of the service itself: health, doctor, model card, reload."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from cstl_edge import __version__
from cstl_edge.errors import CstlEdgeError
from cstl_edge.live.events import utc_text
from cstl_edge.serve.context import FrontContext
from cstl_edge.serve.messages import ProcessState, Stats, now
from cstl_edge.serve.outputs.base import OutputHealth
from cstl_edge.serve.web.figures import Latencies
from cstl_edge.serve.web.rest.operations import Call, Operation
from cstl_edge.serve.web.rest.service_models import (
    DoctorView,
    HealthView,
    KeptView,
    ModelView,
    ProcessView,
)

ASSETS = Path(__file__).parents[3] / "assets"
CARDS = ("MODEL_CARD.md", "README.md")
MAX_CARD_BYTES = 200_000


async def get_health(call: Call) -> HealthView:
    """Return how the service is."""
    context, state = call.context, call.context.state()
    latencies: Latencies = call.request.app.state.latencies
    stats = context.stats()
    recogniser = stats["recogniser"].values if "recogniser" in stats else {}
    free, store = recogniser.get("free_bytes"), recogniser.get("store_bytes")
    return HealthView(
        site=context.site.name,
        version=__version__,
        ready=state.ready,
        not_ready_reasons=state.not_ready_reasons,
        safe_mode=context.safe_mode,
        site_error=context.site_error if call.identity.is_admin else None,
        kept=_kept(context),
        processes=tuple(_process(p, stats, latencies) for p in state.processes),
        outputs=_outputs(context, call.identity.is_admin),
        disk_free_bytes=int(free) if free is not None else await run_in_threadpool(_free, context),
        store_bytes=None if store is None else int(store),
    )


def _kept(context: FrontContext) -> KeptView:
    keep = context.site.keep
    return KeptView(
        events_days=keep.events_days,
        snapshots=keep.snapshots.enabled,
        snapshots_days=keep.snapshots.days,
        clips=keep.clips.enabled,
        clips_days=keep.clips.days,
        unknowns=keep.unknowns.enabled,
        unknowns_days=keep.unknowns.days,
        max_gb=keep.max_gb,
        min_free_gb=keep.min_free_gb,
    )


def _outputs(context: FrontContext, is_admin: bool) -> tuple[OutputHealth, ...]:
    """Return the outputs; their reasons, which name hosts, for admins alone."""
    health = context.outputs.health() if context.outputs is not None else ()
    return health if is_admin else tuple(replace(output, reason=None) for output in health)


def _free(context: FrontContext) -> int | None:
    try:
        return shutil.disk_usage(context.site.data).free
    except OSError:
        return None


def _process(state: ProcessState, stats: Mapping[str, Stats], latencies: Latencies) -> ProcessView:
    told = stats.get(state.name)
    return ProcessView(
        name=state.name,
        state=state.state,
        pid=state.pid,
        started_utc=utc_text(state.started_utc) if state.started_utc else None,
        restarts=state.restarts,
        reason=state.reason,
        memory_bytes=state.memory_bytes,
        cpu_s=state.cpu_s,
        values=dict(told.values) if told else {},
        texts=dict(told.texts) if told else {},
        latency_ms=dict(latencies.of(state.name)),
    )


async def get_doctor(call: Call) -> DoctorView:
    """Return what this machine has, as `cstl-edge doctor` tells it."""
    from cstl_edge.doctor import report  # late: it looks at every backend

    diagnosis = await run_in_threadpool(report)
    return DoctorView(lines=tuple(diagnosis.lines()))


async def get_model(call: Call) -> ModelView:
    """Return the card of the model that runs."""
    model = call.context.site.model
    card = await run_in_threadpool(_card, model)
    return ModelView(card=card, path=str(model) if model else "the shipped model")


def _card(model: Path | None) -> str:
    folder = ASSETS if model is None else (model if model.is_dir() else model.parent)
    for name in CARDS if model is not None else CARDS[:1]:
        path = folder / name
        if path.is_file() and path.stat().st_size <= MAX_CARD_BYTES:
            return path.read_text(encoding="utf-8", errors="replace")
    return "This model has no card."


async def reload_site(call: Call) -> None:
    """Read the site's file again; cameras whose lines changed start anew."""
    await call.command("service.reload", {}, timeout_s=30)


async def restart_process(call: Call) -> None:
    """Start a process of the service anew, such as a recogniser that is off."""
    await call.command("service.restart", {"process": call.path("process")})


def alive(context: FrontContext) -> bool:
    """Tell whether the supervisor still reports."""
    try:
        state = context.state()
    except CstlEdgeError:
        return False

    return (now() - state.utc).total_seconds() < 10


OPERATIONS = (
    Operation(
        "GET", "/health", get_health, "service", "Tell how it is", "viewer", result=HealthView
    ),
    Operation(
        "GET", "/doctor", get_doctor, "service", "Tell what the machine has", result=DoctorView
    ),
    Operation(
        "GET", "/model", get_model, "service", "Get the model's card", "viewer", result=ModelView
    ),
    Operation(
        "POST",
        "/processes/{process}/restart",
        restart_process,
        "service",
        "Start a process anew (recogniser, front)",
    ),
    Operation("POST", "/reload", reload_site, "service", "Read the site's file again"),
)
