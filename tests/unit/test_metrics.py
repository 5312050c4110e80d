"""Metrics equal those of scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from common.errors import InvalidArgumentsError
from common.training_plans.metrics import compute, fits

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 1))
BINARY = (RNG.random((50, 1)) > 0.4).astype(np.int64)
SCORES = RNG.normal(size=(50, 4))
CLASSES = RNG.integers(0, 4, 50)
THEIRS = {"PRECISION": sklearn.precision_score, "RECALL": sklearn.recall_score, "F1_SCORE": sklearn.f1_score}


def test_accuracy_takes_the_highest_score_or_the_sign_of_a_logit():
    assert compute("ACCURACY", SCORES, CLASSES, {}) == np.mean(SCORES.argmax(axis=1) == CLASSES)
    assert compute("ACCURACY", LOGITS, BINARY, {}) == np.mean((LOGITS > 0) == BINARY)


def test_accuracy_of_a_segmentation_counts_every_pixel():
    scores, truth = RNG.normal(size=(2, 3, 4, 5)), RNG.integers(0, 3, (2, 4, 5))

    assert compute("ACCURACY", scores, truth, {}) == np.mean(scores.argmax(axis=1) == truth)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("metric", THEIRS)
def test_metrics_of_many_classes_equal_those_of_scikit_learn(metric, average):
    expected = THEIRS[metric](CLASSES, SCORES.argmax(axis=1), average=average)

    assert compute(metric, SCORES, CLASSES, {"average": average}) == pytest.approx(expected)


@pytest.mark.parametrize("metric", THEIRS)
def test_metrics_of_two_classes_are_about_class_one_and_otherwise_macro(metric):
    binary = THEIRS[metric](BINARY[:, 0], LOGITS[:, 0] > 0)
    macro = THEIRS[metric](CLASSES, SCORES.argmax(axis=1), average="macro")

    assert compute(metric, LOGITS, BINARY, {}) == pytest.approx(binary)
    assert compute(metric, SCORES, CLASSES, {}) == pytest.approx(macro)


@pytest.mark.parametrize("average", [None, "weighted", "macro"])
@pytest.mark.parametrize("metric", THEIRS)
def test_a_ratio_without_any_case_is_zero(metric, average):
    assert compute(metric, -np.ones(3), np.zeros(3), {"average": average} if average else {}) == float(
        average is not None
    )


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
@pytest.mark.parametrize(
    ("metric", "theirs"),
    [
        ("MEAN_SQUARE_ERROR", sklearn.mean_squared_error),
        ("MEAN_ABSOLUTE_ERROR", sklearn.mean_absolute_error),
        ("EXPLAINED_VARIANCE", sklearn.explained_variance_score),
        ("R2_SCORE", sklearn.r2_score),
    ],
)
def test_metrics_of_a_regression_equal_those_of_scikit_learn(metric, theirs, shape):
    outputs, targets = RNG.normal(size=shape), RNG.normal(size=shape)

    assert compute(metric, outputs, targets, {}) == pytest.approx(theirs(targets, outputs))


def test_the_explained_variance_of_a_constant_is_one_if_met_and_else_zero():
    assert compute("EXPLAINED_VARIANCE", np.ones(3), np.zeros(3), {}) == 1.0
    assert compute("EXPLAINED_VARIANCE", np.arange(3.0), np.zeros(3), {}) == 0.0


def test_scores_fit_class_numbers_and_values_fit_values():
    assert fits("ACCURACY", SCORES, CLASSES)
    assert fits("ACCURACY", LOGITS, BINARY[:, 0])
    assert fits("MEAN_SQUARE_ERROR", LOGITS, BINARY[:, 0])
    assert not fits("MEAN_SQUARE_ERROR", SCORES, CLASSES)
    assert not fits("ACCURACY", np.ones((3, 2, 2)), np.ones(3))
    assert not fits("ACCURACY", np.ones((3, 0)), np.ones(3))


@pytest.mark.parametrize("args", [{"average": "samples"}, {"zero_division": 1}])
def test_arguments_that_are_not_known_are_refused(args):
    with pytest.raises(InvalidArgumentsError):
        compute("F1_SCORE", LOGITS, BINARY, args)
