"""Scenario `cold_start`: the command in a fresh process, and where its time goes."""

from pathlib import Path

import pytest

from cstl_edge.bench.context import SHORT_BUDGET, Context
from cstl_edge.bench.record import ModelUnderTest
from cstl_edge.bench.scenarios import cold_start

PHASES = (
    *("interpreter", "imports", "model", "gallery", "segmenter_and_source", "background", "walks"),
    "search",
)


def context() -> Context:
    model = ModelUnderTest(name="m", weights_sha256="a", size=(64, 44), parts=4)
    return Context("r", Path(), None, model, 1, SHORT_BUDGET, short=True, progress=lambda _: None)


@pytest.mark.slow  # two fresh processes look at a clip
@pytest.mark.timeout(300)
def test_the_command_is_timed_and_its_phases_fill_the_time():
    command, child = cold_start.rows(context())
    assert command.skipped is child.skipped is None
    assert command.values["seconds_p50"] * 1e3 == command.samples["wall"][0] > 0
    assert set(child.samples) == {"wall", *PHASES}
    phases = sum(child.samples[phase][0] for phase in PHASES)
    assert 0.6 * child.samples["wall"][0] < phases <= child.samples["wall"][0]
    assert child.samples["background"][0] > 0


def test_a_command_that_fails_has_no_time():
    row = cold_start._row(context(), "x", ["python", "-c", "raise SystemExit(5)"], 1, phases=False)
    assert row.skipped is not None
    assert row.skipped.startswith("exit code 5")
    assert not row.samples


def test_phases_that_are_none_are_an_error():
    from cstl_edge.errors import DataError

    with pytest.raises(DataError, match="expected phases"):
        cold_start._phases("nothing")
