"""The history shows every metric at each node, as the mean of nodes, and over all samples."""

from __future__ import annotations

import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from sklearn import metrics as sklearn

from common.errors import InvalidSettingsError, MissingExtraError
from common.training_plans.statistics import summarise
from researcher.history import History
from researcher.round import RoundState
from researcher.scores import scores_of
from tests.support.records import record


def score(one, metric, on="global"):
    return next(found for found in scores_of(one) if (found.metric, found.on) == (metric, on))


def hospitals(sizes):
    rng = np.random.default_rng(0)
    outputs = {node: rng.normal(size=count) for node, count in sizes.items()}
    targets = {node: (rng.random(count) < 0.3).astype(np.int64) for node, count in sizes.items()}
    targets["north"][:2], targets["south"][:2] = (0, 1), (0, 1)
    return outputs, targets


def test_a_score_has_the_nodes_their_mean_and_the_value_over_all_samples():
    sizes = {"north": 200, "south": 20}
    outputs, targets = hospitals(sizes)
    statistics = {node: summarise("F1_SCORE", outputs[node], targets[node]) for node in sizes}
    f1 = {node: sklearn.f1_score(targets[node], outputs[node] > 0) for node in sizes}
    told = {node: {"F1_SCORE": value} for node, value in f1.items()}
    one = score(record(1, told, statistics, samples=sizes), "F1_SCORE")

    actual = np.concatenate([targets[node] for node in sizes])
    chosen = np.concatenate([outputs[node] for node in sizes]) > 0
    assert f1 == one.nodes
    assert sum(f1.values()) / 2 == pytest.approx(one.mean)
    assert sklearn.f1_score(actual, chosen) == pytest.approx(one.pooled, abs=1e-12)
    assert (0.0, 220) == (one.bound, one.samples)


def test_the_area_under_the_curve_states_its_bound():
    sizes = {"north": 200, "south": 20}
    outputs, targets = hospitals(sizes)
    statistics = {node: summarise("ACCURACY", outputs[node], targets[node]) for node in sizes}
    one = score(record(1, {node: {} for node in sizes}, statistics, samples=sizes), "ROC_AUC")

    exact = sklearn.roc_auc_score(
        *(np.concatenate([part[node] for node in sizes]) for part in (targets, outputs))
    )
    assert 0 < one.bound < 0.02
    assert abs(exact - one.pooled) <= one.bound


def test_without_counts_means_are_still_exact_and_ratios_unknown():
    told = {"north": {"loss": 1.0, "F1_SCORE": 0.5}, "south": {"loss": 4.0, "F1_SCORE": 1.0}}
    one = record(1, told, samples={"north": 20, "south": 10})

    assert (2.5, 2.0, 0.0) == (score(one, "loss").mean, score(one, "loss").pooled, score(one, "loss").bound)
    assert (0.75, None) == (score(one, "F1_SCORE").mean, score(one, "F1_SCORE").pooled)


def test_if_one_node_keeps_its_counts_nothing_is_pooled_from_the_others_alone():
    sizes = {"north": 20, "south": 20}
    outputs, targets = hospitals(sizes)
    one = record(
        1,
        {node: {"ACCURACY": 0.5} for node in sizes},
        {"north": summarise("ACCURACY", outputs["north"], targets["north"])},
        samples=sizes,
    )

    assert (0.5, 0.0) == (score(one, "ACCURACY").pooled, score(one, "ACCURACY").bound)
    assert score(one, "ROC_AUC").pooled is None


def test_a_metric_of_ones_own_is_weighted_by_samples_and_nobody_knows_whether_that_is_exact():
    told = {"north": {"dice": 1.0}, "south": {"dice": 0.0}}
    one = score(record(1, told, samples={"north": 30, "south": 10}), "dice")

    assert (0.5, 0.75, None) == (one.mean, one.pooled, one.bound)


def test_a_value_that_is_missing_leaves_the_pooled_one_unknown():
    one = score(record(1, {"north": {"dice": 1.0}, "south": {"dice": None}}), "dice")

    assert (1.0, None) == (one.mean, one.pooled)


HISTORY = History(
    [
        record(1, {"north": {"loss": 1.0}, "south": {"loss": 3.0}}),
        record(2, {"north": {"loss": 0.5}, "south": {"loss": 2.5}}),
        record(3, {"north": {"loss": 9.0}}, state=RoundState.FAILED),
        record(3, {"north": {"loss": 0.4}, "south": {"loss": 2.0}}, kind="validate"),
    ]
)


def test_records_tell_each_view_of_each_metric_of_each_closed_round():
    rows = [row for row in HISTORY.records() if row["on"] == "global"]

    assert {"node": 6, "mean": 3, "pooled": 3} == {
        view: sum(row["view"] == view for row in rows) for view in ("node", "mean", "pooled")
    }
    assert [(1, 2.0), (2, 1.5), (3, 1.2)] == [
        (row["round"], row["value"]) for row in rows if row["view"] == "pooled"
    ]
    assert {"north", "south", None} == {row["node"] for row in rows}
    assert [10, 10, 20, 20] == [row["n"] for row in rows[:4]]


def test_a_metric_is_found_by_round():
    assert {1: 2.0, 2: 1.5, 3: 1.2} == {
        number: one.pooled for number, one in HISTORY.scores("loss", "global").items()
    }
    assert [1, 2] == list(HISTORY.scores())


def test_a_chart_shows_nodes_mean_and_pooled_value_and_needs_no_library(tmp_path):
    chart = HISTORY.plot("loss", "global")
    chart.save(tmp_path / "loss.svg")

    root = ET.fromstring((tmp_path / "loss.svg").read_text())  # noqa: S314 - our own
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"north", "south", "mean", "pooled", "1", "2", "3"} <= texts
    assert chart.svg == chart._repr_svg_()


def test_a_metric_that_no_round_has_cannot_be_drawn():
    with pytest.raises(InvalidSettingsError, match=r"there are loss \(global\), loss \(train\)"):
        HISTORY.plot("dice", "global")


def test_the_table_says_what_to_install_where_pandas_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(MissingExtraError, match="pandas"):
        HISTORY.to_dataframe("records")
