"""Who is trained on and who is tested."""

import numpy as np
import pytest

from cstl_edge.data import splits
from cstl_edge.data.splits import SPLITS, train_ids
from cstl_edge.errors import ConfigError

CASIA_B, OU_MVLP = np.arange(1, 125), np.arange(1, 10308)


def test_casia_b_is_74_against_50():
    assert train_ids("casia-b", "field", CASIA_B).tolist() == list(range(1, 75))
    assert splits.test_ids("casia-b", "field", CASIA_B).tolist() == list(range(75, 125))


def test_ou_mvlp_is_odd_against_even_and_the_last():
    train, test = (get("ou-mvlp", "field", OU_MVLP) for get in (train_ids, splits.test_ids))
    assert train.tolist() == list(range(1, 10306, 2))
    assert test.tolist() == [*range(2, 10307, 2), 10307]
    assert (len(train), len(test)) == (5153, 5154)


def test_the_papers_wording_takes_the_first():
    train = train_ids("ou-mvlp", "first-5153", OU_MVLP)
    assert train.tolist() == list(range(1, 5154))
    assert len(splits.test_ids("ou-mvlp", "first-5153", OU_MVLP)) == 5154


@pytest.mark.parametrize(("kind", "split"), [(k, s) for k in SPLITS for s in SPLITS[k]])
def test_nobody_is_on_both_sides_and_a_part_is_split_as_the_whole(kind, split):
    ids = np.arange(1, 10308)
    train, test = train_ids(kind, split, ids), splits.test_ids(kind, split, ids)
    assert sorted([*train, *test]) == ids.tolist()
    part = ids[::7]
    assert set(train_ids(kind, split, part).tolist()) == set(train.tolist()) & set(part.tolist())


def test_what_has_no_split_is_refused():
    with pytest.raises(ConfigError, match=r"casia-b, ou-mvlp.*got 'grew'"):
        train_ids("grew", "field", CASIA_B)
    with pytest.raises(ConfigError, match=r"split of casia-b \(field\), got 'first-5153'"):
        splits.test_ids("casia-b", "first-5153", CASIA_B)
