"""What an asynchronous experiment promises; against scripted nodes over the in-memory broker."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.errors import RoundFailedError
from common.messages import RunEnd, TaskCancel, TrainRequest
from researcher import Experiment
from researcher.monitoring import RoundEnded, RoundOpened, UpdateArrived
from researcher.round import RoundState
from researcher.strategies import AsyncStrategy
from tests.support.experiments import ARGS, Death, Recorder, crash, dying, in_thread, joined, make
from tests.support.fake_node import Failure, Place, Silence, always, numbered, shifted
from tests.support.holdings import tensors_of


@pytest.fixture
def nodes():
    return ("fast", "slow")


def shift(experiment, folder, round_):
    """Return by how much the model after a round differs from the first one."""
    past = Experiment.load(experiment.folder, round=round_)
    past.export(folder / "model")
    initial = tensors_of(experiment.folder, experiment.history()[0].base)
    (by,) = {
        round(float((value - initial[name]).mean()), 4) for name, value in load_file(folder / "model").items()
    }
    return by


def test_nodes_do_not_wait_for_each_other_and_stale_updates_weigh_less(trial, federation, tmp_path):
    fast = trial.start("fast", always(shifted(1.0)))
    slow = trial.start("slow", numbered(Silence(then=shifted(8.0)), Silence()))
    recorder = Recorder()
    strategy = AsyncStrategy(buffer=1)
    # Three steps by the fast node alone, then the slow one reports what it learned from the first model.
    experiment = make(federation, node_selection_strategy=strategy, observers=(recorder,), round_limit=4)
    gate = Silence(then=shifted(1.0))
    fast.script = numbered(shifted(1.0), shifted(1.0), shifted(1.0), gate)
    thread, errors = in_thread(experiment)
    for _ in range(3):
        recorder.until(RoundEnded)
    slow.until(TrainRequest)
    slow.release()
    joined(thread)

    assert [] == errors
    assert [1.0, 2.0, 3.0] == [shift(experiment, tmp_path, round_) for round_ in (1, 2, 3)]
    assert shift(experiment, tmp_path, 4) == 3.0 + 8.0 * (1 + 3) ** -0.5
    models = [record.model for record in experiment.history()]
    asked = [request.model.sha256 for request in fast.of(TrainRequest)]
    assert [experiment.history()[0].base, *models[:3]] == asked
    slow.until(RunEnd)


def test_a_node_that_trains_again_in_a_step_draws_other_numbers(trial, federation):
    fast = trial.start("fast", always(shifted(1.0)))
    experiment = make(federation, node_selection_strategy=AsyncStrategy(buffer=3))

    assert 2 == experiment.run(2)

    first = [request for request in fast.of(TrainRequest) if request.round == 1]
    assert 3 == len({request.seed for request in first})
    assert 1 == len({request.model.sha256 for request in first})


def test_a_replayed_step_gives_the_recorded_model(trial, federation):
    trial.start("fast", always(shifted(1.0)))
    trial.start("slow", always(shifted(2.0, samples_seen=5)))
    experiment = make(federation, node_selection_strategy=AsyncStrategy(buffer=3), round_limit=5)

    assert 5 == experiment.run()

    for record in experiment.history():
        assert Experiment.load(experiment.folder, round=record.round).replay().same
    with experiment._dossier.reading() as ledger:
        counted = [ledger.counted_tasks(record.run, record.round) for record in experiment.history()]
        assert [3] * 5 == [len(tasks) for tasks in counted]
        assert 15 == len({task for tasks in counted for task in tasks})
        assert [] == ledger.outstanding(experiment.history()[0].run)


def test_what_is_too_stale_is_cancelled_and_asked_anew(trial, federation):
    trial.start("fast", always(shifted(1.0)))
    slow = trial.start("slow", always(Silence()))
    strategy = AsyncStrategy(buffer=1, max_staleness=1)
    experiment = make(federation, node_selection_strategy=strategy, round_limit=3)

    assert 3 == experiment.run()

    slow.until(TaskCancel)
    assert [1, 3] == [request.round for request in slow.until(TrainRequest, 2)]


def test_an_update_in_chunks_may_be_for_an_older_step(trial, federation):
    trial.start("fast", always(shifted(1.0)))
    trial.start("slow", always(shifted(2.0, chunk_bytes=1024)))
    experiment = make(federation, node_selection_strategy=AsyncStrategy(buffer=2), round_limit=6)

    assert 6 == experiment.run()


def test_a_failing_node_is_tried_again_and_then_left_alone(trial, federation):
    trial.start("fast", always(shifted(1.0)))
    slow = trial.start("slow", always(Failure(code="WRN-601", text="died", final=False)))
    experiment = make(federation, node_selection_strategy=AsyncStrategy(buffer=4, retries=2), round_limit=3)

    assert 3 == experiment.run()
    assert 3 == len({request.assignments[0].task_id for request in slow.of(TrainRequest)[1:]}) + 1


def test_a_run_without_nodes_fails_with_the_reasons(trial, federation):
    trial.start("fast", always(Failure()))
    experiment = make(federation, node_selection_strategy=AsyncStrategy(buffer=1))

    with pytest.raises(RoundFailedError, match="fast: WRN-504"):
        experiment.run(1)
    assert RoundState.FAILED is experiment.history()[0].state


@pytest.mark.parametrize(
    ("kind", "count"), [(UpdateArrived, 2), (UpdateArrived, 3), (RoundOpened, 3), (RoundEnded, 2)]
)
def test_a_run_goes_on_after_its_process_died(trial, tmp_path, kind, count):
    trial.start("fast", always(shifted(1.0)))
    trial.start("slow", always(shifted(1.0)))
    federation = Place(trial, tmp_path / "home")
    experiment = make(federation, node_selection_strategy=AsyncStrategy(buffer=2), round_limit=4)
    dying(experiment, kind, count)
    with pytest.raises(Death):
        experiment.run()
    experiment._dossier.close()
    crash(federation)

    with Place(trial, tmp_path / "home") as again:
        resumed = Experiment.resume(experiment.folder, federation=again, observers=())
        resumed.run()
        history = resumed.history()
        assert [1, 2, 3, 4] == [record.round for record in history]
        for record in history:
            assert Experiment.load(resumed.folder, round=record.round).replay().same
        with resumed._dossier.reading() as ledger:
            counted = [task for record in history for task in ledger.counted_tasks(record.run, record.round)]
        assert 8 == len(counted) == len(set(counted))


def test_the_last_model_is_validated_by_everybody(trial, federation):
    nodes = [trial.start(name, always(shifted(1.0))) for name in ("fast", "slow")]
    arguments = ARGS | {"test_on_global_updates": True}
    experiment = make(
        federation, node_selection_strategy=AsyncStrategy(buffer=2), training_args=arguments, round_limit=2
    )

    experiment.run()

    assert "validate" == experiment.history()[-1].kind
    for node in nodes:
        assert [False] == [request.train for request in node.of(TrainRequest) if not request.train]
    assert np.isfinite(experiment.history()[-1].nodes["fast"].metrics["global_ACCURACY"])
