"""A node validates on another data set, found by its tags: a real agent with a real worker, over the in-memory transport."""

from __future__ import annotations

import pytest

from common.audit.record import Action
from common.audit.verify import read_records
from common.messages import TaskFailed, TrainReply
from common.training_args import TrainingArgs
from node.registry import Registry
from tests.support.nodes import write_table
from tests.support.quick_workers import quick_workers  # noqa: F401 - a fixture
from tests.support.trial import Trial


@pytest.fixture
def trial(tmp_path):
    trial = Trial(tmp_path)
    registry = Registry(trial.home.registry_path)
    registry.add(
        write_table(tmp_path / "held-back.csv", rows=7),
        name="held back",
        tags=["held-back"],
        description="what nobody trains on",
        data_type="tabular",
    )
    registry.close()
    yield trial
    trial.close()


def args(*tags, **more):
    return TrainingArgs(num_updates=1, test_tags=tags, test_on_global_updates=True, **more)


@pytest.mark.usefixtures("quick_workers")
def test_the_other_set_is_validated_on_and_the_whole_first_one_trained_on(trial):
    trial.send(trial.request(training_args=args("held-back")))
    reply = trial.answer(TrainReply).message

    assert (16, 7) == (reply.samples_train, reply.samples_test)
    assert [7] == [one.samples for one in reply.validations]
    trial.node.stop()
    released = [one for one in read_records(trial.home.audit_path) if one.action is Action.UPDATE_RELEASED]
    assert ["validated on data set"] == [one.note[:21] for one in released]


@pytest.mark.parametrize("tag", ["nothing", "trial"])
def test_without_one_other_set_with_these_tags_the_task_is_refused(trial, tag):
    trial.send(trial.request(training_args=args(tag)))
    failed = trial.answer(TaskFailed).message

    assert "WRN-606" == failed.code
    assert "to validate on" in failed.text
