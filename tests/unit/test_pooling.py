"""Metrics of the statistics of several nodes are those of all their samples in one place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn import metrics as sklearn

from common.limits import HEADER_BYTES
from common.messages import CalibrationBin, ClassStatistics, Validation
from common.messages.statistics import CLASSES, SCORE_BINS
from common.pooling import auc_bound, metrics_of, pooled
from common.training_plans.metrics import compute
from common.training_plans.statistics import summarise

SIZES = (40, 1, 160, 99)
CUTS = np.cumsum(SIZES)[:-1]


def draw(seed=0, classes=2, spread=2.0):
    """Outputs and targets of all nodes, the targets such that the outputs know something of them."""
    rng = np.random.default_rng(seed)
    if classes == 2:
        outputs = rng.normal(scale=spread, size=(sum(SIZES), 1))
        return outputs, (rng.random(outputs.shape) < 1 / (1 + np.exp(-outputs))).astype(np.int64)
    outputs = rng.normal(scale=spread, size=(sum(SIZES), classes))
    return outputs, (outputs + rng.gumbel(size=outputs.shape)).argmax(axis=1)


def split(metric, outputs, targets):
    pairs = zip(np.split(outputs, CUTS), np.split(targets, CUTS), strict=True)
    return [summarise(metric, *pair) for pair in pairs]


def test_pooled_metrics_of_two_classes_equal_those_of_scikit_learn_on_all_samples():
    outputs, targets = draw()
    chance, actual = 1 / (1 + np.exp(-outputs[:, 0])), targets[:, 0]
    metrics = metrics_of(pooled(split("ACCURACY", outputs, targets)))

    expected = {
        "ACCURACY": sklearn.accuracy_score(actual, chance > 0.5),
        "PRECISION": sklearn.precision_score(actual, chance > 0.5),
        "RECALL": sklearn.recall_score(actual, chance > 0.5),
        "F1_SCORE": sklearn.f1_score(actual, chance > 0.5),
        "LOG_LOSS": sklearn.log_loss(actual, chance),
        "BRIER_SCORE": sklearn.brier_score_loss(actual, chance),
    }
    assert {name: pytest.approx(value, abs=1e-12) for name, value in expected.items()} == {
        name: metrics[name] for name in expected
    }


@pytest.mark.parametrize("average", [None, "macro", "micro", "weighted"])
def test_pooled_metrics_of_many_classes_equal_those_of_scikit_learn_on_all_samples(average):
    outputs, targets = draw(classes=5)
    chances = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    metrics = metrics_of(pooled(split("ACCURACY", outputs, targets)), average)

    choice = outputs.argmax(axis=1)
    assert sklearn.f1_score(targets, choice, average=average or "macro") == pytest.approx(metrics["F1_SCORE"])
    assert sklearn.log_loss(targets, chances, labels=range(5)) == pytest.approx(metrics["LOG_LOSS"])
    truth = np.eye(5)[targets]
    assert np.square(chances - truth).sum(axis=1).mean() == pytest.approx(metrics["BRIER_SCORE"])
    assert "ROC_AUC" not in metrics


def test_the_pooled_confusion_matrix_is_that_of_scikit_learn():
    outputs, targets = draw(classes=4)
    matrix = pooled(split("ACCURACY", outputs, targets)).confusion

    assert sklearn.confusion_matrix(targets, outputs.argmax(axis=1)).tolist() == [list(row) for row in matrix]


@pytest.mark.parametrize("columns", [1, 3])
def test_pooled_metrics_of_a_regression_equal_those_of_scikit_learn_also_far_from_zero(columns):
    rng = np.random.default_rng(1)
    targets = rng.normal(loc=1e6, size=(sum(SIZES), columns))
    outputs = targets + rng.normal(loc=0.3, scale=0.5, size=targets.shape)
    metrics = metrics_of(pooled(split("MEAN_SQUARE_ERROR", outputs, targets)))

    assert {
        "MEAN_SQUARE_ERROR": pytest.approx(sklearn.mean_squared_error(targets, outputs)),
        "MEAN_ABSOLUTE_ERROR": pytest.approx(sklearn.mean_absolute_error(targets, outputs)),
        "R2_SCORE": pytest.approx(sklearn.r2_score(targets, outputs), rel=1e-9),
        "EXPLAINED_VARIANCE": pytest.approx(sklearn.explained_variance_score(targets, outputs), rel=1e-9),
    } == metrics


def test_calibration_is_the_mean_gap_between_confidence_and_truth_in_ten_bins():
    outputs, targets = draw()
    chance = 1 / (1 + np.exp(-outputs[:, 0]))
    place = np.minimum((chance * 10).astype(int), 9)
    gaps = [
        (place == bin_).mean() * abs(chance[place == bin_].mean() - targets[place == bin_].mean())
        for bin_ in range(10)
        if (place == bin_).any()
    ]

    assert sum(gaps) == pytest.approx(
        metrics_of(pooled(split("ACCURACY", outputs, targets)))["CALIBRATION_ERROR"]
    )


@given(st.integers(0, 10**6), st.sampled_from([0.001, 0.05, 2.0, 50.0]))
def test_the_area_under_the_roc_curve_is_within_its_bound(seed, spread):
    outputs, targets = draw(seed, spread=spread)
    together = pooled(split("ACCURACY", outputs, targets))

    exact = sklearn.roc_auc_score(targets[:, 0], outputs[:, 0])
    assert abs(metrics_of(together)["ROC_AUC"] - exact) <= auc_bound(together) + 1e-12


def test_the_bound_is_small_where_scores_spread():
    assert auc_bound(pooled(split("ACCURACY", *draw()))) < 0.01


@given(st.permutations(range(len(SIZES))))
def test_the_order_of_nodes_does_not_matter(order):
    parts = split("ACCURACY", *draw())

    assert pooled(parts) == pooled([parts[index] for index in order])


def test_probabilities_are_taken_as_they_are_and_logits_through_a_softmax():
    outputs, targets = draw(classes=3)
    chances = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    logits, as_they_are = (metrics_of(summarise("ACCURACY", one, targets)) for one in (outputs, chances))

    assert as_they_are == {name: pytest.approx(value) for name, value in logits.items()}


def test_a_matrix_with_fewer_classes_is_one_without_cases_of_the_others():
    small = summarise("ACCURACY", *draw(classes=3)).model_copy(update={"probabilities": None})
    large = summarise("ACCURACY", *draw(classes=5))
    matrix = pooled([small, large]).confusion

    assert (5, small.cases + large.cases) == (len(matrix), sum(map(sum, matrix)))


def test_classes_and_values_do_not_add_up():
    outputs, targets = draw()

    assert pooled([summarise("ACCURACY", outputs, targets), summarise("R2_SCORE", outputs, targets)]) is None
    assert pooled([]) is None


def test_every_pixel_of_a_segmentation_is_a_case():
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(2, 3, 4, 5)), rng.integers(0, 3, (2, 4, 5))
    made = summarise("ACCURACY", scores, truth)

    assert 40 == made.cases
    assert compute("ACCURACY", scores, truth, {}) == metrics_of(made)["ACCURACY"]
    assert Validation(on="local", samples=2, metrics={}, statistics=made).samples_fit


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (np.zeros((2, 3)), np.array([0, 3])),
        (np.zeros((2, 3)), np.array([0, -1])),
        (np.zeros(2), np.array([0, 10**12])),
        (np.array([0.0, np.nan]), np.array([0, 1])),
        (np.zeros((2, CLASSES + 1)), np.array([0, 1])),
        (np.zeros((2, 1)), np.array([0, 2])),
    ],
)
def test_what_fits_no_matrix_has_no_statistics_and_allocates_none(outputs, targets):
    assert summarise("ACCURACY", outputs, targets) is None


def test_the_largest_statistics_of_two_validations_fit_a_message():
    count = 10**7
    scores = tuple([count * CLASSES] * SCORE_BINS)
    matrix = tuple(tuple(count for _ in range(CLASSES)) for _ in range(CLASSES))
    largest = ClassStatistics(confusion=matrix, probabilities=None)

    size = 2 * (len(largest.model_dump_json()) + len(str(scores)) * 2)
    assert size < HEADER_BYTES * 3 // 4


def changed(**parts):
    made = summarise("ACCURACY", *draw())
    return made.model_dump() | parts


@pytest.mark.parametrize(
    "document",
    [
        changed(confusion=((1, 2), (3,))),
        changed(confusion=((1, 2), (3, 4))),
        changed(confusion=((1, -2), (3, 4)), probabilities=None),
        changed(confusion=((0,) * (CLASSES + 1),) * (CLASSES + 1), probabilities=None),
    ],
)
def test_counts_that_contradict_each_other_are_no_statistics(document):
    with pytest.raises(ValidationError):
        ClassStatistics.model_validate(document)


def test_a_bin_has_no_more_hits_than_cases():
    made = summarise("ACCURACY", *draw())
    bins = list(made.probabilities.calibration)
    bins[0] = CalibrationBin(cases=bins[0].cases, confidence=0.0, hits=bins[0].cases + 1)
    known = made.probabilities.model_copy(update={"calibration": tuple(bins)})

    with pytest.raises(ValidationError, match="not of these cases"):
        ClassStatistics.model_validate({"confusion": made.confusion, "probabilities": known.model_dump()})


@pytest.mark.parametrize(
    ("metric", "theirs"),
    [
        ("LOG_LOSS", sklearn.log_loss),
        ("BRIER_SCORE", sklearn.brier_score_loss),
        ("ROC_AUC", sklearn.roc_auc_score),
    ],
)
def test_metrics_of_probabilities_equal_those_of_scikit_learn(metric, theirs):
    outputs, targets = draw(3)
    chance = 1 / (1 + np.exp(-outputs[:, 0]))

    assert theirs(targets[:, 0], chance) == pytest.approx(compute(metric, outputs, targets, {}))


def test_the_area_under_the_curve_counts_ties_as_a_half_and_needs_both_classes():
    assert 0.5 == compute("ROC_AUC", np.zeros(4), np.array([0, 1, 0, 1]), {})
    assert np.isnan(compute("ROC_AUC", np.arange(4.0), np.ones(4), {}))
    assert np.isnan(compute("ROC_AUC", np.ones((4, 3)), np.ones(4), {}))


def test_r2_of_a_constant_is_one_if_met_and_else_zero_and_of_one_value_undefined():
    assert [1.0, 0.0] == [compute("R2_SCORE", one, np.ones(3), {}) for one in (np.ones(3), np.arange(3.0))]
    assert np.isnan(compute("R2_SCORE", np.ones(1), np.ones(1), {}))
