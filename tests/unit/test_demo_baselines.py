"""The demo compares its model with figures that can be computed exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from deploy.demo.baselines import (
    LOCAL_RIDGE,
    Linear,
    Site,
    auc,
    evaluate,
    fit,
    local_model,
    log_loss,
    majority_accuracy,
    pooled_optimum,
)
from deploy.demo.hospitals import hospitals

SCORED = st.lists(
    st.tuples(st.integers(-3, 3).map(float), st.sampled_from([0.0, 1.0])), min_size=2, max_size=40
).filter(lambda pairs: len({label for _, label in pairs}) == 2)


@pytest.fixture(scope="module")
def sites():
    return {name: Site.of(hospital) for name, hospital in hospitals().items()}


def test_the_pooled_optimum_has_the_known_figures(sites):
    scores = evaluate(pooled_optimum(sites), sites)
    assert scores.train_log_loss == pytest.approx(0.48669291, abs=5e-9)
    assert scores.auc_pooled == pytest.approx(0.8004, abs=5e-5)
    assert scores.accuracy_mean == pytest.approx(0.7132, abs=5e-5)
    accuracies = [
        round(scores.sites[name].accuracy, 4) for name in ("cleveland", "hungary", "switzerland", "va")
    ]
    assert accuracies == [0.7500, 0.7528, 0.7500, 0.6000]


def test_guessing_the_commoner_label_has_the_known_accuracy(sites):
    assert np.mean([majority_accuracy(site) for site in sites.values()]) == pytest.approx(0.7207, abs=5e-5)


def test_features_are_standardised_with_the_training_part_alone(sites):
    for name, site in sites.items():
        np.testing.assert_allclose(site.train.mean(axis=0), 0, atol=1e-12)
        deviations = site.train.std(axis=0, ddof=1)
        constant = hospitals()[name].features[~hospitals()[name].test].std(axis=0) == 0
        np.testing.assert_allclose(deviations[~constant], 1, atol=1e-6)


def test_every_local_model_is_finite_and_at_its_minimum(sites):
    for site in sites.values():
        model = local_model(site)
        weights = np.array([model.intercept, *model.weights])
        assert np.isfinite(weights).all()
        design = np.column_stack([np.ones(len(site.train)), site.train])
        chance = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (chance - site.train_labels) / len(design) + LOCAL_RIDGE * weights
        np.testing.assert_allclose(gradient, 0, atol=1e-9)


def test_a_hospital_with_patients_of_one_kind_gets_a_finite_model():
    features = np.random.default_rng(7).normal(size=(20, 3))
    model = fit(features, np.ones(20), ridge=0.01)
    assert np.isfinite([model.intercept, *model.weights]).all()
    assert (model.logits(features) > 0).all()


@given(SCORED)
def test_auc_counts_ties_half_as_sklearn_does(pairs):
    logits, labels = (np.array(column) for column in zip(*pairs, strict=True))
    assert auc(logits, labels) == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_auc_of_one_label_alone_is_not_defined(label):
    assert auc(np.array([0.1, 0.2]), np.full(2, label)) is None


@given(SCORED)
def test_log_loss_is_that_of_sklearn(pairs):
    logits, labels = (np.array(column) for column in zip(*pairs, strict=True))
    expected = sklearn_log_loss(labels, 1 / (1 + np.exp(-logits)), labels=[0, 1])
    assert log_loss(logits, labels) == pytest.approx(expected, abs=1e-12)


def test_log_loss_stays_finite_where_the_model_is_very_sure_and_wrong():
    assert log_loss(np.array([2000.0, -2000.0]), np.array([0.0, 1.0])) == 2000.0


def test_a_model_of_zeros_knows_nothing(sites):
    scores = evaluate(Linear(np.zeros(13), 0.0), sites)
    assert scores.auc_pooled == 0.5
    assert scores.train_log_loss == pytest.approx(np.log(2))
