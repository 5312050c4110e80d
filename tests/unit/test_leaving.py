"""What a worker says is not believed: what could carry data does not leave the node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.ids import DatasetId, Digest, TaskId, derived_uuid
from common.messages import ClassStatistics, Column, ColumnMoments, LossPoint, Validation
from common.training_args import TrainingArgs
from node.audit import update_entry
from node.dataset import Dataset
from node.fingerprint import Fingerprint
from node.leaving import LossPace, refusal, screened, told
from node.policy import Policy
from node.replies import task_timings, trained
from node.worker.protocol import Failed
from tests.support.tasks import done as report
from tests.unit.test_policy import request as train_request

SOURCE = """
class Plan:
    def testing_step(self, data, target):
        return {"dice": 1.0, f"class_{1}_recall": 0.5}
"""
DATASET = Dataset(
    dataset_id=DatasetId("d"),
    name="heart",
    data_type="tabular",
    tags=("heart",),
    description="",
    path=Path("heart.csv"),
    parameters={},
    samples=100,
    shape=(100, 2),
    columns=(Column(name="gaps", dtype="float"), Column(name="words", dtype="string")),
    fingerprint=Fingerprint(1, 1, Digest("a" * 64)),
    added_at=0.0,
)
TASK = TaskId(derived_uuid("task"))


def request(source=SOURCE):
    return train_request().model_copy(update={"source": source})


def done(metrics=None, **changes):
    validations = (Validation(on="global", samples=20, metrics=metrics or {"dice": 0.5}),)
    usual = {"samples_seen": 80, "samples_train": 80, "samples_test": 20, "validations": validations}
    return report(TASK, **(usual | changes))


def why(done, **settings):
    error = refusal(done, request(), Policy(**settings), DATASET)
    return None if error is None else f"{error.code} {error}"


@pytest.mark.parametrize(
    "name", ["dice", "loss", "ACCURACY", "Custom", "Custom_12", "class_7_recall", "dice_3"]
)
def test_a_metric_that_the_plan_names_leaves(name):
    source = SOURCE + "NAMES = ['dice_']\n"
    assert refusal(done({name: 0.5}), request(source), Policy(), DATASET) is None


@pytest.mark.parametrize(
    "name", ["4711", "patient", "dice 4711 12 13 14", "class_4711_recall", "Custom_4711"]
)
def test_a_metric_whose_name_could_carry_data_does_not_leave(name):
    assert "WRN-610" in why(done({name: 0.5}))
    assert name not in why(done({name: 0.5}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"samples_train": 81}, "more samples than the 100"),
        ({"validations": (Validation(on="global", samples=20, metrics={}),) * 2}, "twice"),
        ({"validations": (Validation(on="global", samples=19, metrics={}),)}, "not of the test part"),
    ],
)
def test_counts_that_cannot_be_do_not_leave(changes, reason):
    assert reason in why(done(**changes))


def test_a_test_set_of_its_own_is_counted_apart():
    apart = replace(DATASET, test=replace(DATASET, samples=20))
    told = done(samples_train=100)

    assert refusal(told, request(), Policy(), apart) is None
    too_many = done(samples_train=100, samples_test=21, validations=())
    assert "more samples" in str(refusal(too_many, request(), Policy(), apart))


def test_more_metrics_than_a_message_may_hold_do_not_leave():
    assert "more than 100 metrics" in why(done({f"class_{number}_recall": 0.5 for number in range(101)}))


def test_the_policy_names_the_metrics_that_may_leave():
    assert why(done({"dice": 0.5}), allowed_metrics=["dice"]) is None
    assert "not one of the allowed" in why(done({"dice": 0.5}), allowed_metrics=["loss"])


def with_counts(cases=20):
    counts = ClassStatistics(confusion=((cases, 0), (0, 0)), probabilities=None)
    return done(validations=(Validation(on="global", samples=20, metrics={"dice": 0.5}, statistics=counts),))


def test_counts_and_sums_leave_unless_the_policy_lists_metrics_without_them():
    kept = [
        screened(with_counts(), Policy(allowed_metrics=allowed)).validations[0].statistics is not None
        for allowed in (None, ["dice", "STATISTICS"], ["dice"])
    ]

    assert [True, True, False] == kept
    assert {"dice": 0.5} == screened(with_counts(), Policy(allowed_metrics=["dice"])).validations[0].metrics


def test_counts_that_are_not_of_the_test_part_do_not_leave():
    assert why(with_counts(40)) is None  # two cases of each sample
    assert "its counts are not of the test part" in why(with_counts(21))


def test_a_part_that_is_smaller_than_the_policy_allows_does_not_leave():
    assert "WRN-4" in why(done(), minimum_samples=21)
    assert why(done(), minimum_samples=20) is None


def failure(text, *, code="WRN-504", line=3):
    failed = Failed(task_id=TASK, code=code, text=text, plan_line=line, detail="")
    asked = request().model_copy(update={"model_args": {"layers": [{"column": "age"}]}})
    return told(failed, asked, DATASET)


def test_the_place_of_an_error_is_told():
    text = "ValueError at line 3 of the plan, in Plan.testing_step"
    assert (text, 3, "WRN-504") == (failure(text).text, failure(text).plan_line, failure(text).code)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "patient_4711 at line 3 of the plan, in Plan.testing_step",
            "an error at line 3 of the plan, in Plan.testing_step",
        ),
        (
            "ValueError at line 3 of the plan, in patient_4711",
            "ValueError at line 3 of the plan, in the plan",
        ),
        ("patient 4711", "an error at line 3 of the plan, in the plan"),
    ],
)
def test_words_of_a_worker_are_not_repeated(text, expected):
    assert expected == failure(text).text


@pytest.mark.parametrize("code", ["WRN-606", "WRN-506", "WRN-608", "WRN-999", "WRN-504"])
def test_no_error_repeats_what_a_worker_wrote(code):
    assert "4711" not in failure("patient 4711", code=code, line=None).text


@pytest.mark.parametrize("line", [0, 6, 4711])
def test_a_line_that_the_plan_does_not_have_is_not_told(line):
    assert failure("ValueError", line=line).plan_line is None


def test_losses_beyond_the_rate_are_dropped_and_the_newest_leave():
    points = tuple(LossPoint(iteration=number, epoch=1, samples=1, loss=0.5) for number in range(900))
    pace = LossPace(1)

    assert points == pace.admitted(points)
    assert points[-56:] == pace.admitted(points)
    assert len(pace.admitted(points) + pace.admitted(points) + pace.admitted(points)) < 50


def test_an_error_names_the_column_that_it_is_about_and_no_other_word_of_the_worker():
    text = "column 'gaps' or 'age', of patient '4711', has 4 missing values of 16"

    assert "A column has missing values: 'gaps', 'age'" == failure(text, code="WRN-405", line=None).text


# Moments of columns


def measured(*moments, **settings):
    asked = request().model_copy(
        update={"train": False, "training_args": TrainingArgs(epochs=1, moments="federation")}
    )
    told = done(moments=moments or None, validations=(), samples_seen=0)
    error = refusal(told, asked, Policy(**settings), replace(DATASET, joined=replace(DATASET, columns=AGES)))
    return None if error is None else f"{error.code} {error}"


AGES = (Column(name="age", dtype="float"),)


@pytest.mark.parametrize("name", ["gaps", "age", "0", "2"])
def test_moments_of_a_column_that_there_is_leave(name):
    assert None is measured(ColumnMoments(name=name, count=70, mean=1.0, spread=2.0), minimum_samples=70)


@pytest.mark.parametrize(
    ("name", "count", "reason"),
    [
        ("patient 4711", 80, "a column that there is not"),
        ("3", 80, "a column that there is not"),
        ("gaps", 81, "more values than the training part has"),
        ("gaps", 69, "69 samples are fewer than the 70"),
    ],
)
def test_moments_that_could_carry_data_or_are_of_few_values_do_not_leave(name, count, reason):
    problem = measured(ColumnMoments(name=name, count=count, mean=1.0, spread=2.0), minimum_samples=70)

    assert reason in problem
    assert "4711" not in problem


def test_the_audit_log_lists_the_columns_and_both_sets():
    asked = request()
    joined = replace(DATASET, dataset_id=DatasetId("j"), columns=AGES)
    told = tuple(ColumnMoments(name=name, count=80, mean=1.0, spread=2.0) for name in ("gaps", "age"))
    timings = task_timings(done(), 0.0, 0.0, 0.0)
    (recipient,) = asked.recipients
    reply = trained(recipient, asked, done(moments=told, validations=()), None, timings)

    entry = update_entry(asked, reply, replace(DATASET, joined=joined))

    assert (2, "joined with data set j; moments of columns gaps, age") == (entry.count, entry.note)


def test_moments_leave_only_where_they_were_asked_for():
    told = (ColumnMoments(name="gaps", count=80, mean=1.0, spread=2.0),)

    assert "only if they are asked for" in why(done(moments=told))
    assert "only if they are asked for" in measured()
