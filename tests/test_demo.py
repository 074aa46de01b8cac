"""Demo: verdicts against the truth, and its result as file and JSON."""

import json
from dataclasses import asdict

import pytest

from cstl_edge.cli.console import print_demo
from cstl_edge.demo import VERDICTS, _row, run_demo
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
def test_verdict_of_an_answer(truth, event, answer, verdict):
    row = _row("street", "walker 1", truth, ["Ada"], event)
    assert (row.answer, row.verdict) == (answer, verdict)
    assert (row.distance, row.threshold) == ((None, None) if verdict == "no answer" else (0.5, 0.9))


def test_file_and_json_equal_the_result(tmp_path, capsys):
    result = run_demo(tmp_path, scenes=())
    print_demo(result, as_json=True)
    (file,) = tmp_path.rglob("demo.json")
    assert json.loads(file.read_text()) == json.loads(capsys.readouterr().out) == asdict(result)
    assert result.counts == dict.fromkeys(VERDICTS, 0)
