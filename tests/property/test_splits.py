"""A split takes its share, whatever the order of the samples."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.datasets.split import fold_part
from common.datasets.split import test_part as chosen_for_test

IDS = st.lists(st.integers(0, 2**63 - 1), unique=True, max_size=60)


@given(IDS, st.floats(0, 1), st.integers(0, 2**63 - 1), st.randoms(use_true_random=False))
def test_the_same_ids_are_chosen_in_any_order(ids, ratio, seed, random):
    shuffled = random.sample(ids, len(ids))

    here = chosen_for_test(np.array(ids, dtype=np.int64), ratio, seed)
    there = chosen_for_test(np.array(shuffled, dtype=np.int64), ratio, seed)

    assert {ids[row] for row in here} == {shuffled[row] for row in there}
    assert len(here) == round(ratio * len(ids))
    assert here.tolist() == sorted(set(here.tolist()))


@given(IDS, st.integers(1, 8), st.integers(0, 2**63 - 1), st.randoms(use_true_random=False))
def test_each_sample_is_in_one_of_the_folds_whatever_the_order_and_their_sizes_are_even(
    ids, count, seed, random
):
    shuffled = random.sample(ids, len(ids))

    here = [
        [ids[row] for row in fold_part(np.array(ids, np.int64), (one, count), seed)] for one in range(count)
    ]
    there = [
        [shuffled[row] for row in fold_part(np.array(shuffled, np.int64), (one, count), seed)]
        for one in range(count)
    ]

    assert sorted(ids) == sorted(one for fold in here for one in fold)
    assert [set(fold) for fold in here] == [set(fold) for fold in there]
    assert max(map(len, here)) - min(map(len, here)) <= 1
