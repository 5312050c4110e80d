"""Which nodes take part in a round depends on seed and round alone."""

from __future__ import annotations

from collections import Counter

import pytest

from common.errors import InvalidSettingsError
from researcher.strategies import AllNodes, RandomSampling, RoundRobinSampling, WeightedSampling

NODES = dict.fromkeys("abcdefgh", 100)
SAMPLINGS = [
    RandomSampling(num_nodes=3, seed=5),
    WeightedSampling(num_nodes=3, seed=5),
    RoundRobinSampling(num_nodes=3),
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_sample_is_the_same_whoever_draws_it_and_everybody_else_is_in_reserve(sampling):
    shuffled = dict(reversed(NODES.items()))
    for round_i in range(1, 20):
        sample = sampling.sample(NODES, round_i)
        assert sample == sampling.sample(shuffled, round_i)
        assert 3 == len(sample.nodes)
        assert sorted(NODES) == sorted(sample.nodes + sample.reserve)


def test_all_nodes_leave_nobody_in_reserve():
    assert (tuple(sorted(NODES)), ()) == (
        AllNodes().sample(NODES, 1).nodes,
        AllNodes().sample(NODES, 1).reserve,
    )


def test_another_seed_gives_other_samples():
    one, other = RandomSampling(num_nodes=3, seed=1), RandomSampling(num_nodes=3, seed=2)

    assert [one.sample(NODES, i) for i in range(9)] != [other.sample(NODES, i) for i in range(9)]


def test_a_node_that_leaves_changes_nobody_elses_lot():
    sampling = RandomSampling(num_nodes=1, seed=3)
    before = sampling.sample(NODES, 4)
    order = before.nodes + before.reserve
    after = sampling.sample({name: 100 for name in NODES if name != order[3]}, 4)

    assert order[:3] + order[4:] == after.nodes + after.reserve


def test_random_sampling_is_fair():
    drawn = Counter(
        node for i in range(2000) for node in RandomSampling(num_nodes=2, seed=1).sample(NODES, i).nodes
    )

    assert all(abs(count - 500) < 80 for count in drawn.values())


def test_weighted_sampling_prefers_large_data_sets_in_proportion():
    sizes = {"large": 300, "small": 100}
    drawn = Counter(WeightedSampling(num_nodes=1, seed=1).sample(sizes, i).nodes[0] for i in range(2000))

    assert abs(drawn["large"] - 1500) < 80


def test_round_robin_takes_everybody_in_turn():
    sampling = RoundRobinSampling(num_nodes=3)

    drawn = [sampling.sample(dict.fromkeys("abcde", 1), i).nodes for i in range(1, 6)]
    assert [("a", "b", "c"), ("a", "d", "e"), ("b", "c", "d"), ("a", "b", "e"), ("c", "d", "e")] == drawn


def test_a_fraction_is_rounded_up_and_a_number_is_at_most_everybody():
    assert 2 == len(RandomSampling(fraction=0.3).sample(dict.fromkeys("abcd", 1), 1).nodes)
    assert 4 == len(RandomSampling(num_nodes=9).sample(dict.fromkeys("abcd", 1), 1).nodes)


@pytest.mark.parametrize(
    "wrong", [{}, {"num_nodes": 1, "fraction": 0.5}, {"num_nodes": 0}, {"fraction": 0.0}]
)
@pytest.mark.parametrize("kind", [RandomSampling, WeightedSampling, RoundRobinSampling])
def test_a_wrong_size_is_refused(kind, wrong):
    with pytest.raises(InvalidSettingsError):
        kind(**wrong)
