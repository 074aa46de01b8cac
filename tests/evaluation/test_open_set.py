"""Open-set evaluation against worked examples and loops over the definitions; DET curve."""

import json

import numpy as np
import pytest
from PIL import Image

from cstl_edge.errors import ConfigError, DataError, StorageError
from cstl_edge.evaluation import open_set
from cstl_edge.evaluation.det import write_det
from cstl_edge.evaluation.embeddings import GALLERY
from cstl_edge.evaluation.open_set import Searches, compare_fnir, evaluate_open_set, run_searches
from cstl_edge.evaluation.protocols import select_trials

from .conftest import draw_labelled, plain_distance


def open_set_trials(labelled):
    return select_trials(labelled, "open-set")


def plain_errors(labelled, trial, known, threshold):
    """FPIR and FNIR of one split at one threshold, search by search."""
    alarms, misses = [], []
    for probe in trial.probes["all"]:
        entries = [g for g in trial.gallery if labelled.people[g] in known]
        distance = [plain_distance(labelled, probe, g) for g in entries]
        best = int(np.argmin(distance))
        if labelled.people[probe] in known:
            right = labelled.people[entries[best]] == labelled.people[probe]
            misses.append(not (right and distance[best] < threshold))
        else:
            alarms.append(distance[best] < threshold)
    return np.mean(alarms), np.mean(misses)


def test_error_rates_of_a_worked_example():
    """Four strangers at 1, 2, 3, 4; four mates at 0.5, 1.5, 2.5 and one that is not the nearest."""
    inf = np.inf
    searches = Searches(
        people=np.repeat([0, 1], 4),
        known=np.array([[False, True]]),
        mate=np.array([[inf] * 4 + [0.5, 1.5, 2.5, inf]], np.float32),
        stranger=np.array([[4, 2, 1, 3, 9, 9, 9, 2]], np.float32),
    )
    points = open_set._errors(searches, np.array([0.1, 0.25, 0.5, 0.9]), np.ones((1, 2)))[0]
    # the largest threshold that stays within: none of four may pass, one, two, three
    assert points[:, 2].tolist() == [1, 2, 3, 4]
    assert points[:, 0].tolist() == [0, 0.25, 0.5, 0.75]
    assert points[:, 1].tolist() == [0.75, 0.5, 0.25, 0.25]


def test_error_rates_equal_loops_over_the_definitions():
    labelled = draw_labelled(people=6, spread=1.0, missing=0.1, seed=3)
    trial = open_set_trials(labelled)
    searches = run_searches(labelled, trial, splits=3)
    ids = np.unique(labelled.people)
    rates = np.array([0.02, 0.1, 0.4])
    for split in range(3):
        one_split = Searches(
            searches.people,
            *(a[split : split + 1] for a in (searches.known, searches.mate, searches.stranger)),
        )
        assert searches.known[split].sum() == 3
        for fpir, fnir, threshold in open_set._errors(one_split, rates, np.ones((1, 6)))[0]:
            just_below = threshold - 1e-5  # it is a stranger's distance, rounded to float32
            plain = plain_errors(labelled, trial, set(ids[searches.known[split]]), just_below)
            assert (fpir, fnir) == pytest.approx(plain, abs=1e-9)


def test_weights_equal_repeated_people():
    """A weight of 2 is the same as everybody's searches twice."""
    labelled = draw_labelled(people=6, spread=1.0)
    searches, rates = (
        run_searches(labelled, open_set_trials(labelled), splits=2),
        np.array([0.05, 0.3]),
    )
    weights = np.array([[2, 0, 1, 3, 0, 1]])
    repeated = np.repeat(np.arange(len(searches.people)), weights[0][searches.people])
    repeated_searches = Searches(
        searches.people[repeated],
        searches.known,
        searches.mate[:, repeated],
        searches.stranger[:, repeated],
    )
    weighted = open_set._errors(searches, rates, weights.astype(float))
    assert np.allclose(
        weighted, open_set._errors(repeated_searches, rates, np.ones((1, 6))), equal_nan=True
    )


def test_record_has_counts_errors_and_a_monotonic_curve():
    labelled = draw_labelled(people=8, spread=0.8)
    result = evaluate_open_set(labelled, open_set_trials(labelled), (0.001, 0.1), draws=50)
    assert (result["gallery_people"], result["strangers"]) == (4, 4)
    assert result["mated_searches"] == result["non_mated_searches"] == 4 * 6 * 2
    # 48 non-mated searches: not one alarm proves no less than 3/48
    assert result["provable_fpir"] == 0.0625
    assert [row["provable"] for row in result["errors"]] == [False, True]
    for row in result["errors"]:
        assert row["fpir"] <= row["fpir_wanted"]
        assert row["fnir_95"][0] <= row["fnir"] <= row["fnir_95"][1]
    curve = np.array([[point["fpir"], point["fnir"]] for point in result["det"]])
    assert (np.diff(curve[:, 0]) >= 0).all()
    assert (np.diff(curve[:, 1]) <= 0).all()
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_sequences_that_failed_to_enrol_are_misses_and_no_alarms():
    labelled = draw_labelled(people=6, spread=0.1)
    labelled.embeddings[np.isin(labelled.sequences, ["nm-05", "cl-01"])] = np.nan  # 2 of 6 probes
    (row,) = evaluate_open_set(labelled, open_set_trials(labelled), (0.5,), draws=20)["errors"]
    assert row["fnir"] == pytest.approx(1 / 3, abs=1e-3)
    assert row["fpir"] <= 0.5


def test_tie_with_another_person_is_a_miss():
    labelled = draw_labelled(people=4, spread=0.0)
    labelled.embeddings[:] = 0
    searches = run_searches(labelled, open_set_trials(labelled), splits=2)
    assert np.isinf(searches.mate).all()


def test_too_few_people_and_invalid_rates_are_refused():
    with pytest.raises(DataError, match="4 people at least, got 3"):
        evaluate_open_set(draw_labelled(people=3), open_set_trials(draw_labelled(people=3)))
    labelled = draw_labelled(people=4)
    one_probed = labelled[(labelled.people == 10) | np.isin(labelled.sequences, GALLERY)]
    with pytest.raises(DataError, match="got at least 0"):
        evaluate_open_set(one_probed, open_set_trials(one_probed))
    for rates in ((), (0.0,), (1.0,), (float("nan"),)):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            evaluate_open_set(labelled, open_set_trials(labelled), rates)


def test_det_curve_is_drawn(tmp_path):
    labelled = draw_labelled(people=8, spread=0.8)
    result = evaluate_open_set(labelled, open_set_trials(labelled), (0.1,), draws=5)
    write_det(result, tmp_path / "det.png", "DET of a stand-in")
    with Image.open(tmp_path / "det.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(2**16)}
    assert {(0, 90, 170), (200, 60, 20)} <= colours  # the line and the marks
    with pytest.raises(StorageError, match="cannot write"):
        write_det(result, tmp_path / "det.png" / "det.png", "")


def test_fnir_difference_uses_the_thresholds_of_each_model():
    searches, rates = [], []
    for spread in (1.4, 0.6):
        labelled = draw_labelled(people=10, spread=spread, seed=2)
        trial = open_set_trials(labelled)
        searches.append(run_searches(labelled, trial))
        rates.append(evaluate_open_set(labelled, trial, [0.1], draws=2)["errors"][0]["fnir"])
    gain, (low, high) = compare_fnir(*searches, 0.1, draws=200)
    assert gain == pytest.approx(rates[0] - rates[1], abs=2e-4)
    assert gain > 0.1
    assert low < gain < high
    back, (least, most) = compare_fnir(*searches[::-1], 0.1, draws=200)
    assert (back, least, most) == pytest.approx((-gain, -high, -low))


def test_fnir_difference_to_itself_is_zero():
    labelled = draw_labelled(people=6, spread=1.0)
    searches = run_searches(labelled, open_set_trials(labelled))
    assert compare_fnir(searches, searches, 0.1, draws=50) == (0.0, (0.0, 0.0))


def test_compare_fnir_refuses_different_people():
    one, other = (draw_labelled(people=n, spread=1.0) for n in (6, 7))
    with pytest.raises(ValueError, match="same people"):
        compare_fnir(*(run_searches(w, open_set_trials(w)) for w in (one, other)), 0.1)
