"""The demo's result: what it compares with the truth, prints and writes."""

import json
from dataclasses import asdict

import pytest

from cstl_edge.cli.console import print_demo
from cstl_edge.demo import VERDICTS, DemoResult, WalkerRow, _row, run_demo
from cstl_edge.live.events import Event

FIGURES = {"distance": 0.5, "threshold": 0.9}


def closed(answer, person=None, **more):
    return Event(event="closed", source="street", track=1, answer=answer, person=person, **more)


@pytest.mark.parametrize(
    ("truth", "event", "answer", "verdict"),
    [
        ("Ada", closed("known", "Ada", **FIGURES), "Ada", "true accept"),
        ("a stranger", closed("known", "Ada", **FIGURES), "Ada", "false accept"),
        ("Ada", closed("unknown", **FIGURES), "unknown", "false reject"),
        ("a stranger", closed("unknown", **FIGURES), "unknown", "true reject"),
        ("Ada", closed("none", reason="too small"), "no answer: too small", "no answer"),
        ("Ada", None, "no answer: never seen", "no answer"),
    ],
)
def test_an_answer_is_compared_with_the_truth(truth, event, answer, verdict):
    row = _row("street", "walker 1", truth, ["Ada"], event)
    assert (row.answer, row.verdict) == (answer, verdict)
    assert (row.distance, row.threshold) == ((None, None) if verdict == "no answer" else (0.5, 0.9))


def test_the_result_is_the_file_and_the_json(tmp_path, capsys):
    result = run_demo(tmp_path, scenes=())
    print_demo(result, as_json=True)
    (file,) = tmp_path.rglob("demo.json")
    assert json.loads(file.read_text()) == json.loads(capsys.readouterr().out) == asdict(result)
    assert result.counts == dict.fromkeys(VERDICTS, 0)


def test_the_tables_for_people(capsys):
    row = WalkerRow("street", "walker 1", "Ada [x]", "Ada [x]", 0.5881, None, "true accept")
    stages = {"street": {"encode": {"count": 3, "p50_ms": 1.234, "p99_ms": 5.0}}}
    print_demo(DemoResult(0, [row], stages=stages, lines=["look at [here]"]), as_json=False)
    text = capsys.readouterr().out
    assert "│ street │ walker 1 │ Ada [x] │ Ada [x] │ 0.588    │           │ true accept │" in text
    assert "│ street │ encode │     3 │ 1.23 │ 5.00 │" in text
    assert text.endswith("look at [here]\n")
