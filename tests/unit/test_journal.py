"""A node remembers of tasks that are done with what it needs to never do them again, and in the end not even that."""

from dataclasses import replace

import pytest

from common.ids import TaskId, new_uuid
from common.messages import LossPoint
from node.admission import task_of
from node.journal import Journal
from tests.unit.test_policy import request as train_request

LOSSES = (LossPoint(iteration=1, epoch=0, samples=4, loss=0.5),)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path):
    journal = Journal(path)
    yield journal
    journal.close()


def done_with(journal, *, forgotten_at):
    """Return a task that was received, begun and forgotten."""
    request = train_request()
    task = replace(task_of(request, request.assignments[0], 0.0), task_id=TaskId(new_uuid()))
    with journal.transaction():
        journal.receive(task, request)
        journal.begin(task.task_id)
        journal.note_losses(task.task_id, LOSSES)
        journal.forget(task.task_id, forgotten_at)
    return task.task_id


def test_a_task_that_is_forgotten_is_known_by_its_id_and_its_losses(journal, path):
    task = done_with(journal, forgotten_at=10.0)
    journal.close()

    reopened = Journal(path)

    assert [] == list(reopened.open_tasks())
    assert reopened.is_forgotten(task)
    assert LOSSES == reopened.losses(task)
    reopened.close()


def test_nothing_is_known_of_a_task_that_never_was(journal):
    assert not journal.is_forgotten(TaskId(new_uuid()))
    assert () == journal.losses(TaskId(new_uuid()))


def test_what_was_forgotten_long_ago_is_removed_for_good(journal):
    old, new = (done_with(journal, forgotten_at=at) for at in (10.0, 30.0))

    with journal.transaction():
        journal.prune(20.0)

    assert (False, ()) == (journal.is_forgotten(old), journal.losses(old))
    assert (True, LOSSES) == (journal.is_forgotten(new), journal.losses(new))
