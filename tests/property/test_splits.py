"""A split takes its share, whatever the order of the samples."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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
