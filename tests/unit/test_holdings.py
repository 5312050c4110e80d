"""Small models and updates lie in the ledger, others are files; a round of a small model ends in one commit."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass

import pytest

from common.errors import NotSolvableError, PayloadMissingError
from common.messages import TrainRequest
from researcher import Experiment, FedAverage
from researcher.holdings import FOLDER, SMALL_BYTES, Holdings
from researcher.ledger import Ledger
from tests.support.experiments import make
from tests.support.fake_node import always, shifted

SMALL, LARGE = b"s" * SMALL_BYTES, b"l" * (SMALL_BYTES + 1)


@pytest.fixture
def ledger(tmp_path):
    with closing(Ledger.create(tmp_path)) as ledger:
        yield ledger


@pytest.fixture
def holdings(ledger, tmp_path):
    return Holdings(ledger, tmp_path)


def files(folder):
    return sorted(path.name for path in (folder / FOLDER).iterdir())


def test_a_small_payload_is_in_the_ledger_once_what_tells_of_it_is(holdings, ledger):
    digest = holdings.put(SMALL)

    assert SMALL == holdings.content(digest)
    assert ledger.payload(digest) is None
    with holdings.together():
        pass
    assert SMALL == ledger.payload(digest)
    assert hashlib.sha256(SMALL).hexdigest() == digest


def test_a_large_payload_is_a_file_at_once(holdings, ledger, tmp_path):
    digest = holdings.put(memoryview(LARGE))

    assert LARGE == holdings.content(digest).read_bytes()
    with holdings.together():
        pass
    assert ([digest], None) == (files(tmp_path), ledger.payload(digest))


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_a_file_is_moved_here(holdings, tmp_path, data):
    draft = tmp_path / "draft"
    draft.write_bytes(data)

    digest = holdings.add(draft)

    assert not draft.exists()
    with holdings.file(digest) as lent:
        assert data == lent.read_bytes()
    with holdings.together():
        pass
    again = Holdings(holdings._ledger, tmp_path)
    with again.file(digest) as lent:
        assert data == lent.read_bytes()
    assert lent.exists() == (data == LARGE)


def test_what_fails_to_be_written_is_written_with_the_next_transaction(holdings, ledger):
    digest = holdings.put(SMALL)

    with pytest.raises(ZeroDivisionError), holdings.together():
        raise ZeroDivisionError
    assert ledger.payload(digest) is None
    with holdings.together():
        pass

    assert SMALL == ledger.payload(digest)


def test_what_a_person_should_look_at_becomes_a_file(holdings, ledger, tmp_path):
    digest = holdings.put(SMALL)

    holdings.show(digest)
    with holdings.together():
        pass

    assert ([digest], None) == (files(tmp_path), ledger.payload(digest))


def test_what_is_removed_is_gone_wherever_it_was(holdings):
    digests = [holdings.put(SMALL), holdings.put(LARGE)]
    with holdings.together():
        pass

    assert 2 == holdings.remove([*digests, "0" * 64])
    for digest in digests:
        with pytest.raises(PayloadMissingError):
            holdings.content(digest)


# In rounds


@pytest.fixture
def trial(trial):
    trial.start("north", always(shifted(1.0)))
    trial.start("south", always(shifted(2.0)))
    return trial


def test_a_round_of_a_small_model_is_two_commits_and_no_file(federation):
    experiment = make(federation)
    experiment.run(1)
    commits = []
    experiment._dossier._ledger._connection.set_trace_callback(
        lambda statement: commits.append(statement) if statement == "COMMIT" else None
    )

    experiment.run(1)

    assert 2 == len(commits)  # what is asked for; what came, and the model that it makes
    assert [] == files(experiment.folder)
    assert not list(experiment.folder.glob("*.draft"))


@dataclass(frozen=True)
class Unable:
    """Makes no model."""

    def aggregate(self, base, contributions, target):
        raise NotSolvableError(reason="nobody can")


def test_updates_that_no_model_can_be_made_of_are_kept_and_not_asked_for_again(trial, federation):
    experiment = make(federation, aggregator=Unable())

    with pytest.raises(NotSolvableError):
        experiment.run(1)

    (record,) = experiment.history()
    assert ["accepted", "accepted"] == [node.outcome for node in record.nodes.values()]
    experiment.close()
    resumed = Experiment.resume(
        experiment.folder, federation=federation, aggregator=FedAverage(), observers=()
    )
    assert 1 == resumed.run(1)
    assert [1, 1] == [len(node.of(TrainRequest)) for node in trial.nodes.values()]
    resumed.close()
