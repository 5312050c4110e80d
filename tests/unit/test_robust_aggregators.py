"""Aggregators that hold against wrong updates: the numbers of their papers, and the harm that they avert."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from common.errors import InvalidSettingsError, TooFewUpdatesError
from common.payload.blocks import BLOCK_ELEMENTS
from common.payload.tensors import load_tensors, save_tensors
from researcher.aggregators import (
    Bulyan,
    Contribution,
    CoordinateMedian,
    FedAverage,
    GeometricMedian,
    Krum,
    NormClipping,
    TrimmedMean,
    aggregator_config,
    aggregator_of,
)

ALL = [
    CoordinateMedian(),
    TrimmedMean(0.2),
    Krum(byzantine=1, keep=3),
    Bulyan(byzantine=1),
    GeometricMedian(),
    NormClipping(max_norm=1.0),
]


def named(aggregator):
    return type(aggregator).__name__


def rows(count, size=12, seed=7):
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def aggregated(folder, values, aggregator, counts=None):
    """Return what becomes of updates that each hold one row of numbers, in two tensors; the base is all zeros."""
    values = np.asarray(values, dtype=np.float32)
    counts = counts or [10] * len(values)
    half = values.shape[1] // 2

    def tensors(row):
        return {"a": torch.tensor(row[:half]), "b": torch.tensor(row[half:]).reshape(-1, 2)}

    parts = []
    for index, row in enumerate(values):
        save_tensors(folder / f"n{index}", tensors(row))
        parts.append(
            Contribution(f"n{index}", folder / f"n{index}", samples_seen=counts[index], samples_train=1)
        )
    save_tensors(folder / "base", tensors(np.zeros(values.shape[1], dtype=np.float32)))
    aggregator.aggregate(folder / "base", parts, folder / "new")
    new = load_tensors(folder / "new")
    return np.concatenate([new["a"].numpy(), new["b"].numpy().ravel()])


def squared_distances(values):
    return [[float(((one - other) ** 2).sum()) for other in values] for one in values.astype(np.float64)]


def krum_order(values, byzantine):
    """Return the updates from the lowest score to the highest, by the words of the paper."""
    distances = squared_distances(values)
    count = len(values)
    scores = [
        sum(sorted(distances[i][j] for j in range(count) if j != i)[: max(1, count - byzantine - 2)])
        for i in range(count)
    ]
    return sorted(range(count), key=lambda i: scores[i])


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_median_is_that_of_each_number(tmp_path, count):
    values = rows(count)

    np.testing.assert_allclose(
        np.median(values, axis=0), aggregated(tmp_path, values, CoordinateMedian()), rtol=1e-6
    )


@pytest.mark.parametrize(("count", "trim", "out"), [(1, 0.4, 0), (5, 0.2, 1), (9, 0.25, 2), (4, 0.0, 0)])
def test_the_trimmed_mean_leaves_out_the_ends_of_each_number(tmp_path, count, trim, out):
    values = rows(count)
    expected = [np.mean(sorted(column)[out : count - out]) for column in values.T.astype(np.float64)]

    np.testing.assert_allclose(expected, aggregated(tmp_path, values, TrimmedMean(trim)), rtol=1e-5)


@pytest.mark.parametrize(("count", "byzantine", "keep"), [(5, 1, 1), (7, 2, 3), (7, 1, 6), (3, 0, 3)])
def test_krum_keeps_those_closest_to_their_neighbours(tmp_path, count, byzantine, keep):
    values = rows(count)
    expected = values[krum_order(values, byzantine)[:keep]].astype(np.float64).mean(axis=0)

    np.testing.assert_allclose(
        expected, aggregated(tmp_path, values, Krum(byzantine=byzantine, keep=keep)), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize(("count", "byzantine"), [(7, 1), (11, 2), (3, 0), (9, 1)])
def test_bulyan_averages_what_lies_around_the_median_of_those_that_krum_chooses(tmp_path, count, byzantine):
    values = rows(count)
    left, chosen = list(range(count)), []
    while len(chosen) < count - 2 * byzantine:
        best = left[krum_order(values[left], byzantine)[0]]
        chosen.append(best)
        left.remove(best)
    picked = values[chosen].astype(np.float64)
    kept = count - 4 * byzantine
    expected = [
        np.mean(sorted(column, key=lambda value: abs(value - np.median(column)))[:kept])
        for column in picked.T
    ]

    np.testing.assert_allclose(
        expected, aggregated(tmp_path, values, Bulyan(byzantine=byzantine)), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("counts", [[1, 1, 1, 1, 1], [5, 1, 2, 8, 3]])
def test_no_point_nearby_is_closer_to_the_updates_than_the_geometric_median(tmp_path, counts):
    values = rows(5).astype(np.float64)
    weights = np.array(counts) / sum(counts)
    found = aggregated(tmp_path, values, GeometricMedian(), counts).astype(np.float64)

    def cost(point):
        return (weights * np.sqrt(((values - point) ** 2).sum(axis=1))).sum()

    rng = np.random.default_rng(1)
    nearby = [found + step for step in rng.normal(scale=1e-2, size=(200, found.size))]
    assert cost(found) < min(map(cost, nearby))
    gradient = (weights[:, None] * (found - values) / np.linalg.norm(found - values, axis=1)[:, None]).sum(
        axis=0
    )
    np.testing.assert_allclose(np.zeros_like(gradient), gradient, atol=1e-5)


def test_the_geometric_median_of_points_of_which_most_coincide_is_that_point(tmp_path):
    values = np.stack([np.ones(12)] * 4 + [np.full(12, 100.0)])

    np.testing.assert_allclose(np.ones(12), aggregated(tmp_path, values, GeometricMedian()), atol=1e-5)


def test_only_what_is_too_far_from_the_base_is_shortened(tmp_path):
    values = np.zeros((2, 12))
    values[0, 0], values[1, 1] = 0.5, 10.0

    new = aggregated(tmp_path, values, NormClipping(max_norm=2.0), [1, 3])

    expected = np.zeros(12)
    expected[0], expected[1] = 0.5 / 4, 2.0 * 3 / 4
    np.testing.assert_allclose(expected, new, rtol=1e-6)


@pytest.mark.parametrize("aggregator", ALL, ids=named)
@pytest.mark.parametrize("lie", [1e6, -1e6])
def test_one_wild_update_of_nine_moves_the_model_little_though_it_ruins_a_mean(tmp_path, aggregator, lie):
    honest = np.random.default_rng(3).normal(loc=0.2, scale=0.05, size=(8, 12))
    wild = np.full((1, 12), lie)

    found = aggregated(tmp_path, np.vstack([honest, wild]), aggregator)

    mean = aggregated(tmp_path, np.vstack([honest, wild]), FedAverage())
    assert np.linalg.norm(found - honest.mean(axis=0)) < 0.5
    assert np.linalg.norm(mean - honest.mean(axis=0)) > 1e5


@pytest.mark.parametrize("aggregator", ALL, ids=named)
def test_equal_updates_stay_as_they_are(tmp_path, aggregator):
    row = rows(1)[0] / 10

    np.testing.assert_allclose(row, aggregated(tmp_path, [row] * 7, aggregator), rtol=1e-6)


@pytest.mark.parametrize("aggregator", ALL, ids=named)
def test_counters_and_flags_keep_their_dtype(tmp_path, aggregator):
    parts = []
    for index, seen in enumerate([3, 5, 5, 7, 90, 5, 4]):
        path = tmp_path / f"n{index}"
        save_tensors(path, {"seen": torch.tensor(seen), "w": torch.tensor([0.1]), "on": torch.tensor([True])})
        parts.append(Contribution(f"n{index}", path, samples_seen=1, samples_train=1))
    save_tensors(tmp_path / "base", load_tensors(parts[0].content))

    aggregator.aggregate(tmp_path / "base", parts, tmp_path / "new")

    new = load_tensors(tmp_path / "new")
    assert (torch.int64, torch.bool, True) == (new["seen"].dtype, new["on"].dtype, bool(new["on"]))


@pytest.mark.parametrize(
    ("aggregator", "needed"),
    [
        (Krum(byzantine=1), 5),
        (Krum(byzantine=1, keep=6), 7),
        (Bulyan(byzantine=1), 7),
        (Bulyan(byzantine=0), 3),
    ],
)
def test_too_few_updates_to_tell_right_from_wrong_are_refused(tmp_path, aggregator, needed):
    aggregated(tmp_path, rows(needed), aggregator)

    with pytest.raises(TooFewUpdatesError, match=f"needs {needed} updates and has {needed - 1}"):
        aggregated(tmp_path, rows(needed - 1), aggregator)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (TrimmedMean, {"trim": 0.5}),
        (TrimmedMean, {"trim": -0.1}),
        (Krum, {"byzantine": -1}),
        (Krum, {"keep": 0}),
        (Bulyan, {"byzantine": -1}),
        (GeometricMedian, {"smoothing": 0.0}),
        (GeometricMedian, {"tolerance": -1.0}),
        (NormClipping, {"max_norm": 0.0}),
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_refused(kind, settings):
    with pytest.raises(InvalidSettingsError, match=next(iter(settings))):
        kind(**settings)


@pytest.mark.parametrize("aggregator", ALL, ids=named)
def test_it_comes_back_from_its_configuration(aggregator):
    assert aggregator == aggregator_of(aggregator_config(aggregator))


def test_memory_depends_neither_on_the_model_nor_on_the_nodes(tmp_path):
    def peak(nodes, elements):
        folder = tmp_path / f"{nodes}-{elements}"
        folder.mkdir()
        parts = []
        for index in range(nodes):
            save_tensors(folder / f"n{index}", {"w": torch.full((elements,), float(index))})
            parts.append(Contribution(f"n{index}", folder / f"n{index}", samples_seen=1, samples_train=1))
        tracemalloc.start()
        CoordinateMedian().aggregate(folder / "n0", parts, folder / "new")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    small = peak(8, 2 * BLOCK_ELEMENTS)

    assert peak(8, 8 * BLOCK_ELEMENTS) < 1.2 * small
    assert peak(32, 2 * BLOCK_ELEMENTS) < 1.5 * small


@pytest.mark.parametrize("aggregator", ALL, ids=named)
def test_the_same_updates_give_the_same_bytes(tmp_path, aggregator):
    aggregated(tmp_path, rows(7), aggregator)
    first = (tmp_path / "new").read_bytes()
    aggregated(tmp_path, rows(7), aggregator)

    assert first == (tmp_path / "new").read_bytes()
