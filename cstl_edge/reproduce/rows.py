"""One row of a table: its configuration, its training, its hits on unseen people.

A row lives in a folder named by what shapes its result, so that tables share rows, a killed row
resumes, and a finished one is never trained again. Files: those of a training run, and `row.json`,
written last. Letters: `m` sequences, `s` frames, `h w` pixels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.config import load_config
from cstl_edge.data.sampling import Sequences
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.errors import DataError, one_line
from cstl_edge.evaluation import PROBES, Walks, rank1_hits, rank1_table
from cstl_edge.measure import environment
from cstl_edge.model import CstlConfig
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder
from cstl_edge.training.presets import RowPlan, TablePlan, find
from cstl_edge.training.resume import FREE, RESUME
from cstl_edge.training.settings import TrainConfig
from cstl_edge.training.trainer import train

logger = logging.getLogger(__name__)

ROW = "row.json"
BATCH = 8  # sequences that are embedded together


def configuration(
    table: TablePlan, row: RowPlan, *, budget: str = "paper", overrides: Sequence[str] = ()
) -> TrainConfig:
    """Return what a row is trained with.

    budget: `paper` takes the table's own preset, any other name is a preset for all rows
    overrides: `key=value` texts that hold for every row
    """
    preset = (row.preset or table.preset) if budget == "paper" else budget
    changes = [f"model.{key}={json.dumps(value)}" for key, value in row.model.items()]
    return load_config(TrainConfig, find(preset), [*changes, *overrides])


def row_folder(root: Path, row: RowPlan, config: TrainConfig) -> Path:
    """Return the folder of a row: its network and all that shapes its weights are in the name.

    Values that are defaults stay out of the hash, so that a new setting renames nothing.
    """
    shape = config.model_dump(mode="json", exclude_defaults=True)
    shape["model"] = _changed(CstlConfig.from_dict(config.model))
    shape["run"] = {k: v for k, v in shape["run"].items() if k not in FREE - {"iterations"}}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()
    network = CstlConfig.from_dict(config.model)
    name = "-".join([*network.scales, network.aggregation, "ssfl" if network.salient else "plain"])
    return root / f"{name}-{digest[:10]}"


def finished(folder: Path) -> dict[str, Any] | None:
    """Return the record of a row, or None when it is not finished; DataError when damaged."""
    path = folder / ROW
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise DataError(f"cannot read {one_line(path)}: {one_line(err)}. Delete it") from err
    return record


def run_row(
    config: TrainConfig,
    data: Callable[[], Sequences],
    test: Callable[[], ShardedSequences],
    folder: Path,
    *,
    about: Mapping[str, Any],
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """Train what is left of a row, evaluate it, and return its record; None when stopped.

    data, test: give the sequences when they are needed
    about: what the record should say besides configuration, budget and results
    """
    record = finished(folder)
    if record is not None:
        return record
    resume = (folder / RESUME).exists()
    logger.info("%s %s", "resuming" if resume else "training", folder.name)
    weights = train(config, data(), folder, resume=resume, stop=stop, about=dict(about))
    if stop():
        return None
    encoder = load(weights, "pytorch")
    walks = embedded(encoder, test())
    record = {
        **about,
        "training": _last_line(folder / "log.jsonl"),
        "weights_sha256": encoder.info.weights_sha256,
        "rank1": rank1_table(walks),
        "hits": hits_by_person(walks),
        "configuration": config.model_dump(mode="json"),
        "environment": environment(),
    }
    part = folder / f"{ROW}.part"
    part.write_text(json.dumps(record), encoding="utf-8")
    os.replace(part, folder / ROW)
    return record


def embedded(encoder: Encoder, test: ShardedSequences) -> Walks:
    """Embed whole sequences in batches of equal or padded lengths."""
    made = []
    for start in range(0, len(test.people), BATCH):
        rows = range(start, min(start + BATCH, len(test.people)))
        lengths = test.lengths[rows.start : rows.stop].astype(np.int32)
        window = np.zeros((len(rows), lengths.max(), *encoder.info.size), np.uint8)  # [n, s, h, w]
        for place, row in enumerate(rows):
            window[place, : lengths[place]] = test.read(row)
        flat = encoder.frames(window.reshape(-1, *window.shape[2:]))  # [n*s, p, c]
        features = flat.reshape(*window.shape[:2], *flat.shape[1:])  # [n, s, p, c]
        made.append(encoder.head(features, lengths).embedding)
    return Walks(np.concatenate(made), test.people, test.sequences, test.views_deg)


def hits_by_person(walks: Walks) -> dict[str, Any]:
    """Return the share of hits of every person, by condition, across views and in the same view.

    Intervals and paired differences are computed from these again at any time.
    """
    found: dict[str, Any] = {"people": np.unique(walks.people).tolist()}
    for condition in PROBES:
        hits, views, probes = rank1_hits(walks, condition)  # [probes, gallery views]
        same = probes.views_deg[:, None] == np.array(views)[None]
        for name, kept in ("cross_view", ~same), ("same_view", same):
            shown = np.where(kept, hits, np.nan)
            found.setdefault(name, {})[condition] = [
                round(float(np.nanmean(shown[probes.people == person])), 5)
                for person in found["people"]
            ]
    return found


def _changed(network: CstlConfig) -> dict[str, Any]:
    default = CstlConfig().to_dict()
    return {key: value for key, value in network.to_dict().items() if value != default[key]}


def _last_line(path: Path) -> dict[str, Any]:
    lines = path.read_text(encoding="utf-8").splitlines()
    last: dict[str, Any] = json.loads(lines[-1])
    return {key: last[key] for key in ("iteration", "loss", "nonzero", "elapsed_s")}
