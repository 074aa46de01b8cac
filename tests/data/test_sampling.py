"""Batch sampler and frame rules: sizes, order, reproducibility, resuming, shares of ranks."""

import json

import numpy as np
import pytest

from cstl_edge.data.augment import Augmentation
from cstl_edge.data.sampling import FRAME_RULES, Sampler
from cstl_edge.errors import ConfigError, DataError

released_rule, papers_rule, opengaits_rule = FRAME_RULES.values()


class Numbered:
    """Sequences whose pixels hold numbers: the first the sequence, the second the frame."""

    def __init__(self, people, lengths):
        self.people, self.lengths = np.array(people), np.array(lengths)

    def read(self, sequence):
        frames = np.zeros((self.lengths[sequence], 6, 4), np.uint8)
        frames[:, 0, 0] = sequence
        frames[:, 0, 1] = np.arange(self.lengths[sequence])
        return frames


@pytest.fixture
def numbered():
    return Numbered(np.repeat([70, 3, 12, 5, 40], 6), np.tile([1, 7, 12, 16, 30, 50], 5))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("rule", FRAME_RULES.values(), ids=FRAME_RULES)
@pytest.mark.parametrize("length", [1, 2, 15, 16, 29, 30, 31, 39, 40, 41, 200])
def test_every_rule_gives_the_wanted_number_in_order(rule, length):
    for seed in range(20):
        frames = rule(length, 30, rng(seed))
        assert frames.shape == (30,)
        assert 0 <= frames.min() <= frames.max() < length
        assert (np.diff(frames) >= 0).all() or (rule is opengaits_rule and length < 40)
        if length >= 40 or (length >= 30 and rule is not opengaits_rule):
            assert len(set(frames.tolist())) == 30


def test_contiguous_frames_are_consecutive_from_every_start():
    drawn = np.stack([released_rule(20, 16, rng(seed)) for seed in range(300)])
    assert (np.diff(drawn) == 1).all()
    assert set(drawn[:, 0].tolist()) == {0, 1, 2, 3, 4}


def test_the_papers_rule_stays_in_a_window_of_forty():
    drawn = np.stack([papers_rule(100, 30, rng(seed)) for seed in range(300)])
    spans = np.ptp(drawn, axis=1)
    assert spans.min() >= 30  # 30 neighbours of 40 are all but impossible
    assert spans.max() == 39
    assert set(drawn.ravel().tolist()) == set(range(100))


def test_between_thirty_and_forty_the_papers_window_is_the_sequence():
    drawn = [papers_rule(33, 30, rng(seed)) for seed in range(200)]
    assert {int(frames[0]) for frames in drawn} <= {0, 1, 2, 3}
    assert set(np.concatenate(drawn).tolist()) == set(range(33))


def test_opengaits_rule_is_the_papers_on_long_sequences():
    """The same window, start and draw: beyond 40 frames the two rules differ in name alone."""
    for seed in range(50):
        assert (opengaits_rule(90, 30, rng(seed)) == papers_rule(90, 30, rng(seed))).all()


@pytest.mark.parametrize("length", [1, 7, 16, 29, 30, 39])
def test_opengaits_rule_plays_a_short_sequence_again(length):
    """30 of 40 neighbours of 0, 1, .., length - 1, 0, 1, ..: steps are those of a loop."""
    reached = set()
    for seed in range(300):
        frames = opengaits_rule(length, 30, rng(seed))
        steps = np.diff(frames) % length
        turns = (np.diff(frames) < 0).sum()
        assert turns <= 40 // length
        assert length < 11 or steps.max() <= 11  # of 40 frames 10 are left out
        reached |= set(frames.tolist())
    assert reached == set(range(length))


@pytest.mark.parametrize(("length", "frames"), [(1, 30), (7, 16), (10, 30), (29, 30)])
def test_short_sequences_repeat_all_their_frames_evenly(length, frames):
    counts = np.bincount(papers_rule(length, frames, rng()), minlength=length)
    assert counts.min() >= frames // length
    assert counts.max() <= -(-frames // length)


@pytest.mark.parametrize("rule", FRAME_RULES.values(), ids=FRAME_RULES)
def test_an_empty_sequence_is_refused(rule):
    with pytest.raises(DataError, match="at least one frame"):
        rule(0, 30, rng())


def test_a_batch_holds_p_people_and_k_sequences_of_each(numbered):
    sampler = Sampler(numbered, people=3, sequences=4, frames=16, rule="released")
    for _ in range(5):
        batch = next(sampler)
        assert batch.silhouettes.shape == (12, 16, 6, 4)
        assert batch.silhouettes.dtype == np.uint8
        assert np.unique(batch.labels, return_counts=True)[1].tolist() == [4, 4, 4]
        assert (sampler.ids[batch.labels] == numbered.people[batch.rows]).all()
        assert (batch.silhouettes[:, 0, 0, 0] == batch.rows).all()
        assert len(set(batch.rows.tolist())) == 12  # enough sequences: none comes twice


def test_a_person_with_few_sequences_repeats_them():
    sampler = Sampler(Numbered([1, 2], [5, 5]), people=2, sequences=4, frames=3)
    assert sorted(next(sampler).rows.tolist()) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_every_person_is_drawn_once_per_epoch(numbered):
    sampler = Sampler(numbered, people=2, sequences=2, frames=4)
    for epoch in range(6):
        first, second = (set(sampler.batch(2 * epoch + i).labels.tolist()) for i in range(2))
        assert not first & second  # 5 people, 2 batches: one sits out
    seen = {label for i in range(40) for label in sampler.batch(i).labels.tolist()}
    assert seen == {0, 1, 2, 3, 4}


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(numbered):
    settings = {"people": 2, "sequences": 3, "frames": 8}
    change = Augmentation(stride=2.0, shift_px=1, erase=0.5, lost_rows=0.5)
    sampler = Sampler(numbered, **settings, seed=5, augmentation=change)
    same_seed = Sampler(numbered, **settings, seed=5, augmentation=change)
    other_seed = Sampler(numbered, **settings, seed=6, augmentation=change)
    for _ in range(4):
        a, b, c = next(sampler), next(same_seed), next(other_seed)
        assert a.silhouettes.tobytes() == b.silhouettes.tobytes()
        assert a.silhouettes.tobytes() != c.silhouettes.tobytes()


def test_a_sampler_resumes_inside_an_epoch(numbered):
    settings = {"people": 2, "sequences": 3, "frames": 8, "seed": 1}
    sampler = Sampler(numbered, **settings)
    next(sampler)
    state = json.loads(json.dumps(sampler.state_dict()))
    expected = [next(sampler) for _ in range(5)]
    same_seed = Sampler(numbered, **settings)
    same_seed.load_state_dict(state)
    for batch in expected:
        again = next(same_seed)
        assert (again.number, again.rows.tolist()) == (batch.number, batch.rows.tolist())
        assert (again.silhouettes == batch.silhouettes).all()


def test_a_state_of_other_settings_is_refused(numbered):
    state = Sampler(numbered, people=2, sequences=3, frames=8).state_dict()
    with pytest.raises(ConfigError, match="sampler of the saved run"):
        Sampler(numbered, people=2, sequences=4, frames=8).load_state_dict(state)


def test_fewer_people_than_p_are_refused(numbered):
    with pytest.raises(ConfigError, match=r"at least 8 people.*got 5.*Lower sampler.people"):
        Sampler(numbered, people=8, sequences=2, frames=4)


def test_thinning_skips_frames_but_stays_in_order(numbered):
    settings = {"people": 5, "sequences": 6, "frames": 8, "rule": "released"}
    batch = Sampler(numbered, **settings, augmentation=Augmentation(stride=2.0)).batch(0)
    times = batch.silhouettes[:, :, 0, 1].astype(int)  # [n, s]
    long = numbered.lengths[batch.rows] >= 16
    spans = times[long, -1] - times[long, 0]
    assert (np.diff(times, axis=1) >= 0).all()
    assert spans.min() >= 7
    assert 9 < spans.max() <= 15  # 16 frames thinned to 8 at most


@pytest.mark.parametrize("ranks", [2, 4])
def test_shares_of_all_ranks_form_the_batch_of_one_process(numbered, ranks):
    settings = {"people": 4, "sequences": 3, "frames": 8, "seed": 2}
    change = Augmentation(stride=2.0, shift_px=1, jitter_px=1, erase=0.5, lost_rows=0.5)
    alone = Sampler(numbered, **settings, augmentation=change)
    of_rank = {"augmentation": change, "ranks": ranks}
    together = [Sampler(numbered, **settings, **of_rank, rank=rank) for rank in range(ranks)]
    for number in range(4):
        whole, shares = alone.batch(number), [sampler.batch(number) for sampler in together]
        assert {len(share.labels) for share in shares} == {12 // ranks}
        for field in ("silhouettes", "labels", "rows"):
            joined = np.concatenate([getattr(share, field) for share in shares])
            assert (joined == getattr(whole, field)).all()
        people = [set(share.labels.tolist()) for share in shares]
        assert sum(map(len, people)) == len(set.union(*people))  # nobody is split


def test_a_rank_reads_only_its_own_sequences(numbered, monkeypatch):
    sampler = Sampler(numbered, people=4, sequences=3, frames=8, rank=1, ranks=2)
    sampler.batch(0)
    read, sequences_read = type(numbered).read, []
    monkeypatch.setattr(type(numbered), "read", lambda s, i: sequences_read.append(i) or read(s, i))
    assert sequences_read == []
    assert sampler.batch(1).rows.tolist() == sequences_read


def test_people_must_divide_among_the_ranks(numbered):
    with pytest.raises(ConfigError, match=r"divide among 3 processes, got 4\. Take 3"):
        Sampler(numbered, people=4, sequences=2, frames=4, ranks=3)


def test_the_number_of_ranks_may_change_when_a_run_goes_on(numbered):
    settings = {"people": 4, "sequences": 3, "frames": 8}
    state = Sampler(numbered, **settings).state_dict()
    Sampler(numbered, **settings, rank=1, ranks=2).load_state_dict(state)
