"""Answers of REST about the service itself: health, doctor, model card."""

from __future__ import annotations

from dataclasses import dataclass

from cstl_edge.serve.outputs.base import OutputHealth


@dataclass(frozen=True, kw_only=True)
class ProcessView:
    """One process and its figures."""

    name: str
    state: str
    pid: int | None
    started_utc: str | None
    restarts: int
    reason: str | None
    memory_bytes: int | None
    cpu_s: float | None
    values: dict[str, float]
    texts: dict[str, str]
    latency_ms: dict[str, dict[str, float]]  # by stage: p50, p99, samples of the last minute


@dataclass(frozen=True, kw_only=True)
class KeptView:
    """What is kept and for how long."""

    events_days: float
    snapshots: bool
    snapshots_days: float
    clips: bool
    clips_days: float
    unknowns: bool
    unknowns_days: float
    max_gb: float
    min_free_gb: float


@dataclass(frozen=True, kw_only=True)
class HealthView:
    """How the service is."""

    site: str
    version: str
    ready: bool
    not_ready_reasons: tuple[str, ...]
    safe_mode: bool
    site_error: str | None
    kept: KeptView
    processes: tuple[ProcessView, ...]
    outputs: tuple[OutputHealth, ...]
    disk_free_bytes: int | None
    store_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class DoctorView:
    """What this machine has."""

    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """The model that runs: its card."""

    card: str  # Markdown
    path: str
