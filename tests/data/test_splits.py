"""Splits into training and test people: the datasets' protocols, and unknown names refused."""

import numpy as np
import pytest

from cstl_edge.data.splits import SPLITS, is_trained
from cstl_edge.errors import ConfigError

CASIA_B, OU_MVLP = np.arange(1, 125), np.arange(1, 10308)


def divided(kind, split, ids):
    """Return the ids that are trained on and those that are tested."""
    trained = is_trained(kind, split, ids)
    return ids[trained].tolist(), ids[~trained].tolist()


def test_casia_b_trains_on_74_people_and_tests_50():
    assert divided("casia-b", "field", CASIA_B) == ([*range(1, 75)], [*range(75, 125)])


def test_ou_mvlp_trains_on_odd_ids_and_tests_even_ones_and_the_last():
    train, test = divided("ou-mvlp", "field", OU_MVLP)
    assert train == [*range(1, 10306, 2)]
    assert test == [*range(2, 10307, 2), 10307]
    assert (len(train), len(test)) == (5153, 5154)


def test_first_5153_trains_on_the_first_5153_ids():
    train, test = divided("ou-mvlp", "first-5153", OU_MVLP)
    assert train == [*range(1, 5154)]
    assert len(test) == 5154


@pytest.mark.parametrize(("kind", "split"), [(k, s) for k in SPLITS for s in SPLITS[k]])
def test_splits_are_disjoint_and_a_part_is_split_as_the_whole(kind, split):
    train, test = divided(kind, split, OU_MVLP)
    assert sorted([*train, *test]) == OU_MVLP.tolist()
    part = OU_MVLP[::7]
    assert set(divided(kind, split, part)[0]) == set(train) & set(part.tolist())


def test_an_unknown_dataset_or_split_is_refused():
    with pytest.raises(ConfigError, match=r"casia-b, ou-mvlp.*got 'grew'"):
        is_trained("grew", "field", CASIA_B)
    with pytest.raises(ConfigError, match=r"split of casia-b \(field\), got 'first-5153'"):
        is_trained("casia-b", "first-5153", CASIA_B)
