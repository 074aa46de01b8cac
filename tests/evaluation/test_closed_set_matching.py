"""Closed-set protocols against worked examples and the published method; unusable data."""

import numpy as np
import pytest

from cstl_edge.errors import ConfigError, DataError
from cstl_edge.evaluation.closed_set import METRICS, evaluate_closed_set, rank1_table, score_pairs
from cstl_edge.evaluation.embeddings import GALLERY, PROBES, LabelledEmbeddings
from cstl_edge.evaluation.protocols import PROTOCOLS, check_protocol, choose_protocol, select_trials

from .conftest import closed_set_record, draw_labelled, plain_distance

OU_VIEWS = (*range(0, 91, 15), *range(180, 271, 15))


def published_rank1(labelled, gallery_names, probe_names):
    """Rank-1 [%] as the published tables count it, from their description alone.

    For each pair of views the share of probes whose nearest gallery entry is of the same person,
    rounded to two decimals; pairs of identical views dropped; the mean over the other gallery
    views, for each probe view, then the mean over those. A probe without a mate is wrong.
    """

    def rows(names, view):
        return np.flatnonzero(np.isin(labelled.sequences, names) & (labelled.views_deg == view))

    views = sorted(set(labelled.views_deg.tolist()))
    accuracy = np.zeros((len(views), len(views)))
    for i, probe_view in enumerate(views):
        for j, gallery_view in enumerate(views):
            right = total = 0
            for probe in rows(probe_names, probe_view):
                nearest, best = None, np.inf
                for entry in rows(gallery_names, gallery_view):
                    distance = plain_distance(labelled, probe, entry)
                    if distance < best:
                        nearest, best = entry, distance
                total += 1
                right += nearest is not None and labelled.people[nearest] == labelled.people[probe]
            accuracy[i, j] = round(100 * right / total, 2)
    np.fill_diagonal(accuracy, 0)
    by_view = accuracy.sum(1) / (len(views) - 1)
    return by_view.tolist(), float(by_view.mean())


@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_casia_b_rank1_equals_the_published_method(missing):
    """With all sequences and with some lost, as in the real dataset (5,485 of 5,500)."""
    labelled = draw_labelled(people=5, views=(0, 18, 36), spread=1.2, missing=missing, seed=4)
    record = closed_set_record(labelled)
    for condition, names in PROBES.items():
        by_view, mean = published_rank1(labelled, GALLERY, names)
        row = record["conditions"][condition]
        # pairs were rounded to 0.01 %, so ours may differ by half of that and by our own rounding
        assert [100 * x for x in row["per_view"].values()] == pytest.approx(by_view, abs=0.011)
        assert 100 * row["rank-1"] == pytest.approx(mean, abs=0.011)
        assert 20 < mean < 100  # the case says something
    means = [record["conditions"][c]["rank-1"] for c in PROBES]
    assert record["mean"]["rank-1"] == pytest.approx(np.mean(means), abs=1e-4)


def test_ou_mvlp_rank1_equals_the_published_method_over_13_views():
    labelled = draw_labelled(people=4, views=OU_VIEWS, names=("00", "01"), spread=1.5, missing=0.05)
    record = closed_set_record(labelled, "ou-mvlp")
    by_view, mean = published_rank1(labelled, ("01",), ("00",))
    row = record["conditions"]["all"]
    assert list(row["per_view"]) == list(OU_VIEWS)
    assert [100 * x for x in row["per_view"].values()] == pytest.approx(by_view, abs=0.011)
    assert 100 * row["rank-1"] == pytest.approx(mean, abs=0.011)
    perfect = draw_labelled(people=4, views=OU_VIEWS, names=("00", "01"), spread=0.0)
    assert closed_set_record(perfect, "ou-mvlp")["mean"]["rank-1"] == 1.0


def test_identical_views_are_excluded():
    """At 90 degrees everybody looks alike: only pairs with 90 are in the table, all at chance."""
    labelled = draw_labelled(people=4, spread=0.0)
    labelled.embeddings[labelled.views_deg == 90] = labelled.embeddings[0]
    assert closed_set_record(labelled)["conditions"]["nm"]["rank-1"] == 0.25


def test_rank1_equals_rank1_table_on_complete_data():
    labelled = draw_labelled(people=7, views=(0, 54, 108), spread=1.0)
    table, record = rank1_table(labelled), closed_set_record(labelled, draws=500)
    for condition in PROBES:
        row = record["conditions"][condition]
        assert row["rank-1"] == pytest.approx(table[condition]["cross_view"], abs=1e-4)
        assert row["per_view"] == pytest.approx(table[condition]["per_view"], abs=1e-4)
        assert row["rank-1_95"] == pytest.approx(table[condition]["cross_view_95"], abs=0.06)


def test_metrics_do_not_depend_on_sequence_order():
    labelled = draw_labelled(people=5, spread=1.0, missing=0.1)
    other = labelled[np.random.default_rng(0).permutation(len(labelled.people))]
    for protocol in ("casia-b", "cross-view-gallery", "gait3d"):
        assert closed_set_record(labelled, protocol, draws=500) == closed_set_record(
            other, protocol, draws=500
        )


def test_probes_without_a_mate_count_as_missed_unless_dropped():
    """Person 10 has no gallery at 90 degrees: half of their searches cannot succeed."""
    labelled = draw_labelled(people=4, spread=0.0)
    lost = (
        (labelled.people == 10) & np.isin(labelled.sequences, GALLERY) & (labelled.views_deg == 90)
    )
    labelled = labelled[~lost]
    counted = closed_set_record(labelled)["conditions"]["nm"]
    assert counted["per_view"] == {0: 0.75, 90: 1.0}
    assert counted["unmated"] == 2  # two probes at 0 degrees in the gallery of 90
    dropped = closed_set_record(labelled, drop_unmated=True)
    assert dropped["conditions"]["nm"]["rank-1"] == 1.0


def test_cross_view_gallery_leaves_out_the_same_person_in_the_same_view():
    """Where only the own view is near, the same person's entry there must not answer."""
    names = ("nm-01", "nm-02", "bg-02", "cl-02")
    labelled = draw_labelled(people=4, names=names, spread=0.0)
    labelled.embeddings[labelled.views_deg == 90] *= -1  # far from everything at 0 degrees
    record = closed_set_record(labelled, "cross-view-gallery")["conditions"]["nm"]
    assert record["rank-1"] < 0.5
    one_view = labelled[labelled.views_deg == 0]
    assert closed_set_record(one_view, "gait3d")["mean"]["rank-1"] == 1.0
    with pytest.raises(DataError, match="expected somebody who is both searched"):
        closed_set_record(one_view, "cross-view-gallery", drop_unmated=True)


def test_cross_view_gallery_holds_all_views():
    names = ("nm-01", "nm-02", "bg-01", "bg-02", "cl-01", "cl-02")
    labelled = draw_labelled(people=4, names=names, spread=1.0)
    selected = select_trials(labelled, "cross-view-gallery")
    assert set(labelled.sequences[selected.gallery]) == {"nm-02", "bg-02", "cl-02"}
    assert len(selected.gallery) == 4 * 3 * 2
    record = evaluate_closed_set(labelled, selected)["conditions"]
    for condition in PROBES:
        shares = []
        for view in (0, 90):
            own = (labelled.sequences == f"{condition}-01") & (labelled.views_deg == view)
            probes = np.flatnonzero(own)
            right = []
            for probe in probes:  # as the field's toolbox searches
                own_view = labelled.views_deg[selected.gallery] == view
                same = own_view & (labelled.people[selected.gallery] == labelled.people[probe])
                entries = selected.gallery[~same]
                distance = [plain_distance(labelled, probe, entry) for entry in entries]
                nearest = entries[np.argmin(distance)]
                right.append(labelled.people[nearest] == labelled.people[probe])
            shares.append(np.mean(right))
        assert record[condition]["rank-1"] == pytest.approx(np.mean(shares), abs=1e-4)


def test_gait3d_probes_are_first_sequences_and_unmated_are_dropped():
    labelled = draw_labelled(people=3, views=(-1,), names=("a", "b", "c"), spread=0.0)
    lonely = {"embeddings": labelled.embeddings[:1] + 9, "people": [99], "sequences": ["a"]}
    fields = (lonely | {"views_deg": [-1]}).items()
    joined = LabelledEmbeddings(*(np.append(getattr(labelled, k), v, axis=0) for k, v in fields))
    selected = select_trials(joined, "gait3d")
    assert joined.sequences[selected.probes["all"]].tolist() == ["a"] * 4
    row = evaluate_closed_set(joined, selected)["conditions"]["all"]
    assert (row["rank-1"], row["mAP"], row["mINP"], row["unmated"]) == (1.0, 1.0, 1.0, 1)
    listed = select_trials(joined, "gait3d", probe=joined.sequences == "c").probes["all"]
    assert joined.sequences[listed].tolist() == ["c"] * 3


def test_intervals_equal_a_bootstrap_over_people():
    labelled = draw_labelled(people=6, views=(0, 90), spread=1.0, missing=0.2, seed=2)
    selected = select_trials(labelled, "casia-b")
    row = evaluate_closed_set(labelled, selected, draws=400)["conditions"]["cl"]
    people = np.unique(labelled.people)
    rng = np.random.default_rng(7)
    cells = score_pairs(labelled, selected, selected.probes["cl"], people)
    drawn = []
    for _ in range(400):
        chosen = rng.integers(0, len(people), len(people))
        pairs = cells.sums[chosen, :, :, 0].sum(0) / np.maximum(cells.counts[chosen].sum(0), 1)
        drawn.append((pairs[0, 1] + pairs[1, 0]) / 2)
    assert row["rank-1_95"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.07)
    assert row["rank-1_95"][0] < row["rank-1"] < row["rank-1_95"][1]


def test_every_metric_has_an_interval():
    row = closed_set_record(draw_labelled(), draws=20)["mean"]
    for metric in METRICS:
        low, high = row[f"{metric}_95"]
        assert 0 <= low <= row[metric] <= high <= 1


@pytest.mark.parametrize(
    ("names", "protocol"),
    [(("nm-01", "nm-05"), "casia-b"), (("00", "01"), "ou-mvlp"), (("camid0", "x"), "gait3d")],
)
def test_choose_protocol_by_sequence_names(names, protocol):
    assert choose_protocol(names) == protocol


def test_unknown_protocol_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'casia-b'"):
        check_protocol("casiab")
    for name in PROTOCOLS:
        check_protocol(name)


def test_data_without_gallery_probes_or_views_are_refused():
    labelled = draw_labelled()
    with pytest.raises(DataError, match=r"gallery 01.*got 0 sequences.*bg-01"):
        select_trials(labelled, "ou-mvlp")
    only = labelled[np.isin(labelled.sequences, GALLERY)]
    with pytest.raises(DataError, match="0 probes"):
        select_trials(only, "casia-b")
    with pytest.raises(DataError, match="2 views at least"):
        select_trials(labelled[labelled.views_deg == 0], "casia-b")
    strangers = labelled[(labelled.people == 10) == np.isin(labelled.sequences, GALLERY)]
    with pytest.raises(DataError, match="both searched and in the gallery"):
        closed_set_record(strangers, drop_unmated=True)


def test_conditions_without_probes_are_left_out():
    labelled = draw_labelled()
    labelled = labelled[~np.char.startswith(labelled.sequences, "cl")]
    assert list(closed_set_record(labelled)["conditions"]) == ["nm", "bg"]
