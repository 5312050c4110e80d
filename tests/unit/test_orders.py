"""A worker is told all that its task needs, and puts what it makes where the agent looks for it."""

import hashlib
from dataclasses import replace

import pytest

from common.ids import Digest, TaskId, new_uuid
from common.payload.store import PayloadStore
from node.admission import task_of
from node.journal import Journal
from node.orders import order
from node.stock import Stock
from node.worker.folder import RunFolder
from node.worker.harvest import Crop
from tests.unit.test_leaving import DATASET
from tests.unit.test_policy import NODE
from tests.unit.test_policy import request as train_request

MODEL, STATE = b"the model", b"what the task before left"
BEFORE = TaskId(new_uuid())


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


@pytest.fixture
def ordered(journal, tmp_path):
    """Return what orders a task that builds on an earlier one, or on none."""
    stock, folder = Stock(journal, PayloadStore(tmp_path / "payloads")), RunFolder(tmp_path / "run")
    folder.make()
    journal.keep(digest_of(MODEL), MODEL)

    def ordered(base, *, kept):
        request = train_request()
        (share,) = request.assignments
        share = share.model_copy(update={"state_of": base, "updates_done": 7})
        request = request.model_copy(update={"assignments": (share,)})
        task = replace(task_of(request, share, 0.0), model=digest_of(MODEL))
        if kept:
            before = replace(task, task_id=BEFORE)
            stock.keep_state(before, Crop(STATE, digest_of(STATE)), 1.0)
        dataset = replace(DATASET, dataset_id=share.dataset_id)
        return order(task, request, dataset, node=NODE, folder=folder, stock=stock, gpu="none")

    return ordered


def digest_of(content):
    return Digest(hashlib.sha256(content).hexdigest())


def test_a_task_gets_its_model_its_share_and_the_state_that_it_builds_on(ordered):
    made = ordered(BEFORE, kept=True)

    assert (MODEL, STATE) == (made.model, made.state)
    assert (BEFORE, 7) == (made.task.state_of, made.task.updates_done)
    assert made.run.update_path != made.run.state_path


def test_a_task_is_told_that_it_builds_on_a_state_even_if_that_is_gone(ordered):
    """Else it would start afresh and say nothing of it."""
    made = ordered(BEFORE, kept=False)

    assert (BEFORE, None) == (made.task.state_of, made.state)


def test_a_task_that_builds_on_none_gets_none(ordered):
    made = ordered(None, kept=True)

    assert (None, None) == (made.task.state_of, made.state)
