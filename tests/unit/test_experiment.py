"""What an experiment promises, against scripted nodes over the in-memory broker."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.errors import (
    AmbiguousDatasetError,
    ExperimentBusyError,
    ExperimentCancelledError,
    ExperimentExistsError,
    InvalidArgumentsError,
    InvalidSettingsError,
    ModelMismatchError,
    NoDatasetError,
    NotTrainedError,
    PlanFailedError,
    PlanNotApprovedError,
    RoundFailedError,
    UnknownPartyError,
)
from common.ids import REGISTRAR
from common.messages import (
    ChunkRequest,
    PayloadReceipt,
    PlanState,
    RosterUpdate,
    RunEnd,
    TaskCancel,
    TrainRequest,
)
from common.settings import Timeouts
from common.training_args import TrainingArgs
from researcher import Experiment, MinimumStrategy
from researcher.monitoring import RoundOpened, RunEnded, RunStarted, UpdateArrived
from researcher.round import RoundState
from tests.support.experiments import ARGS, Recorder, in_thread, joined, make
from tests.support.fake_node import (
    Failure,
    Place,
    Silence,
    Trial,
    Update,
    always,
    at_rounds,
    dataset,
    numbered,
    shifted,
)
from tests.support.tiny_plan import TinyPlan


def weights(experiment, folder):
    experiment.training_plan().export_model(folder / "exported")
    return load_file(folder / "exported")


def first_weights():
    plan = TinyPlan()
    plan.prepare(model_args={"inputs": 3}, training_args=TrainingArgs.of(ARGS))
    return {name: value.numpy().copy() for name, value in plan.get_model_params().items()}


# Rounds


def test_rounds_make_the_weighted_mean_of_the_updates(trial, federation, tmp_path):
    trial.start("north", always(shifted(1.0, samples_seen=10, samples_train=10)))
    trial.start("south", always(shifted(4.0, samples_seen=20, samples_train=20)))
    experiment = make(federation, round_limit=2)

    assert 2 == experiment.run()

    for name, value in first_weights().items():
        np.testing.assert_allclose(value + 6.0, weights(experiment, tmp_path)[name], rtol=1e-6)


def test_one_request_goes_to_all_nodes(trial, federation):
    nodes = [trial.start("north"), trial.start("south")]
    make(federation).run(1)

    requests = [node.of(TrainRequest) for node in nodes]
    assert requests[0] == requests[1]
    assert [1] == [len(some) for some in requests[:1]]
    assert ("north", "south") == requests[0][0].recipients


def test_a_run_continues_where_the_last_one_ended(trial, federation):
    node = trial.start("north")
    experiment = make(federation)

    experiment.run(2)
    assert 1 == experiment.run_once()

    assert 3 == experiment.round_current()
    assert [1, 2, 3] == [request.round for request in node.of(TrainRequest)]
    assert 1 == len({request.run_id for request in node.of(TrainRequest)})
    assert [] == node.of(RunEnd)


def test_the_round_limit_ends_the_experiment_and_can_be_raised(trial, federation):
    node = trial.start("north")
    experiment = make(federation, round_limit=2)

    assert 2 == experiment.run(5)
    node.until(RunEnd)
    assert 0 == experiment.run()
    assert 1 == experiment.run(1, increase=True)

    first, *_, last = [request.run_id for request in node.of(TrainRequest)]
    assert first != last


def test_a_run_without_end_is_refused(federation):
    with pytest.raises(InvalidSettingsError, match="round limit"):
        make(federation).run()


def test_the_history_tells_who_did_what(trial, federation):
    trial.start("north", always(shifted(1.0, samples_seen=10, samples_train=10, loss=0.25)))
    trial.start("south", always(shifted(1.0, samples_seen=30, samples_train=30, loss=0.5)))
    experiment = make(federation, round_limit=2, training_args=ARGS | {"test_on_global_updates": True})
    experiment.run()
    experiment.close()

    history = experiment.history()

    assert 2 == len(history.training)
    assert {"broadcast_s", "collect_s", "aggregate_s", "save_s"} == history[0].timings.keys()
    assert all(seconds is not None and seconds >= 0 for seconds in history[0].timings.values())
    rows = history.rows()
    assert [("north", 0.25, 10), ("south", 0.5, 30)] == [
        (row["node"], row["loss"], row["samples_seen"]) for row in rows[:2]
    ]
    assert 0.75 == rows[0]["global_ACCURACY"]
    assert 0.1 == rows[0]["trained_s"]


def test_the_model_is_the_same_whatever_the_order_of_arrival(trial, federation):
    answers = {
        "north": shifted(0.1, samples_seen=3, samples_train=3),
        "south": shifted(0.7, samples_seen=7, samples_train=7),
    }
    models = []
    for slow in ("north", "south"):
        for name, answer in answers.items():
            trial.start(name, always(Silence(then=answer) if name == slow else answer))
        recorder = Recorder()
        experiment = make(federation, observers=(recorder,))
        thread, errors = in_thread(experiment, 1)
        recorder.until(UpdateArrived)
        trial.nodes[slow].until(TrainRequest)
        trial.nodes[slow].release()
        joined(thread)
        assert [] == errors
        models.append(experiment.history()[-1].model)
        trial.close()

    assert models[0] == models[1]


def test_the_last_model_is_validated_when_asked_for(trial, federation):
    node = trial.start("north")
    experiment = make(federation, training_args=ARGS | {"test_on_global_updates": True}, round_limit=2)

    assert 2 == experiment.run()

    assert [True, True, False] == [request.train for request in node.of(TrainRequest)]
    assert ["train", "train", "validate"] == [record.kind for record in experiment.history()]
    assert experiment.history()[1].model == node.of(TrainRequest)[-1].model.sha256
    assert {"global_ACCURACY": 0.75} == experiment.history()[-1].nodes["north"].metrics


def test_a_failed_last_validation_does_not_undo_the_training(trial, federation):
    trial.start("north", at_rounds({2: Failure()}))
    experiment = make(federation, training_args=ARGS | {"test_on_global_updates": True}, round_limit=1)

    assert 1 == experiment.run()
    assert RoundState.FAILED is experiment.history()[-1].state


def test_it_works_inside_a_running_event_loop(trial, federation):
    trial.start("north")

    async def cell():
        return make(federation).run(1)

    assert 1 == asyncio.run(cell())


def test_observers_hear_of_everything_and_cannot_end_a_run(trial, federation):
    class Broken:
        def on_event(self, event):
            raise ValueError

    trial.start("north")
    recorder = Recorder()

    assert 1 == make(federation, observers=(Broken(), recorder)).run(1)
    kinds = [type(event) for event in recorder.events]
    assert RunStarted is kinds[0]
    assert RoundOpened is kinds[1]
    assert UpdateArrived in kinds
    assert RunEnded is kinds[-1]


# Data and approval


def test_without_a_matching_data_set_it_says_so(trial, federation):
    trial.start("north")

    with pytest.raises(NoDatasetError, match="tags lung at any node that"):
        make(federation, tags="lung").run(1)


def test_what_cannot_begin_writes_no_folder_and_says_nothing_but_the_error(trial, federation):
    trial.start("north", plan=PlanState.PENDING)
    trial.start("south", plan=PlanState.PENDING)
    recorder = Recorder()

    with pytest.raises(PlanNotApprovedError):
        make(federation, observers=(recorder,)).run(1)
    for node in trial.nodes.values():
        node.plan = PlanState.APPROVED
    with pytest.raises(NoDatasetError):
        make(federation, tags="lung", observers=(recorder,)).run(1)
    with pytest.raises(PlanFailedError):
        make(federation, model_args={}, observers=(recorder,)).run(1)

    assert [] == recorder.events
    assert not federation.home.experiments.exists() or [] == list(federation.home.experiments.iterdir())


def test_a_named_node_without_the_data_set_is_named(trial, federation):
    trial.start("north")
    trial.start("south", datasets=())

    with pytest.raises(NoDatasetError, match="at south"):
        make(federation, nodes=["north", "south"]).run(1)


def test_a_node_that_is_not_in_the_federation_is_named(trial, federation):
    with pytest.raises(UnknownPartyError, match="nowhere"):
        make(federation, nodes=["nowhere"]).run(1)


def test_two_matching_data_sets_at_one_node_are_refused(trial, federation):
    trial.start("north", datasets=(dataset("north", name="one"), dataset("north", name="two")))

    with pytest.raises(AmbiguousDatasetError, match=r"north has 2 data sets.*one, two"):
        make(federation).run(1)


def test_only_named_nodes_train(trial, federation):
    trial.start("north")
    south = trial.start("south")

    experiment = make(federation, nodes="north")
    experiment.run(1)

    assert ["north"] == list(experiment.training_data())
    assert [] == south.of(TrainRequest)


def test_nodes_that_would_refuse_the_plan_are_all_named_before_anything_is_sent(tmp_path):
    trial = Trial(tmp_path / "nodes", ("east", "north", "south", "west"))
    trial.start("east", plan=PlanState.PENDING)
    trial.start("north")
    trial.start("south", plan=PlanState.PENDING)
    trial.start("west", plan=PlanState.REJECTED)
    with Place(trial, tmp_path / "home") as federation:
        experiment = make(federation)
        with pytest.raises(
            PlanNotApprovedError,
            match=f"plan {experiment.plan_hash} is pending at east, south and rejected at west",
        ) as caught:
            experiment.run(1)
    assert "request_approval" in caught.value.advice
    assert [] == trial.nodes["north"].of(TrainRequest)
    trial.close()


def test_a_node_that_needs_no_approval_runs_an_unknown_plan(trial, federation):
    trial.start("north", plan=PlanState.UNKNOWN, required=False)

    assert 1 == make(federation).run(1)


def test_approval_can_be_asked_for_and_watched(trial, federation):
    trial.start("north", plan=PlanState.PENDING)
    experiment = make(federation)

    asked = experiment.training_plan_approve("please")
    assert {"north": PlanState.PENDING} == {node: reply.state for node, reply in asked.items()}
    trial.nodes["north"].plan = PlanState.APPROVED
    status = experiment.check_training_plan_status()
    assert {"north": PlanState.APPROVED} == {node: reply.state for node, reply in status.items()}


# Bad days


def test_a_plan_that_fails_ends_the_round_with_the_reason(trial, federation):
    north = trial.start("north")
    trial.start("south", always(Failure()))
    experiment = make(federation)

    with pytest.raises(RoundFailedError, match="round 1 failed: south: WRN-504: ValueError at line 3"):
        experiment.run(1)

    assert RoundState.FAILED is experiment.history()[0].state
    assert "failed" == experiment.history()[0].nodes["south"].outcome
    north.until(RunEnd)


def test_after_a_failed_round_the_same_round_runs_again_in_a_new_run(trial, federation):
    node = trial.start("north", numbered(Failure(), Update()))
    experiment = make(federation)
    with pytest.raises(RoundFailedError):
        experiment.run(1)

    assert 1 == experiment.run(1)

    first, second = node.of(TrainRequest)
    assert (1, 1) == (first.round, second.round)
    assert first.run_id < second.run_id


def test_a_passing_failure_is_tried_again(trial, federation):
    node = trial.start("north", numbered(Failure(code="WRN-601", text="died", final=False), Update()))
    experiment = make(federation)

    assert 1 == experiment.run(1)

    assert 2 == len({request.assignments[0].task_id for request in node.of(TrainRequest)})
    assert ("accepted", 2) == (
        experiment.history()[0].nodes["north"].outcome,
        experiment.history()[0].nodes["north"].attempt,
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Update(change=lambda t: {k: v * np.float32("nan") for k, v in t.items()}), "not finite"),
        (Update(change=lambda t: {k: v.reshape(-1) for k, v in t.items()}), "shape"),
        (
            Update(change=lambda t: {k: v + np.float32(1e20) for k, v in t.items()}),
            "its change is larger than the norm",
        ),
        (Update(raw=b"\x00" * 40), "not valid safetensors"),
        (Update(samples_seen=10**9), "claims to have seen"),
        (Update(base="d" * 64), "started from model dddd"),
    ],
)
def test_an_unsound_update_is_named_and_never_averaged(trial, federation, tmp_path, answer, reason):
    trial.start("north", always(shifted(1.0)))
    trial.start("south", always(answer))
    experiment = make(federation, node_selection_strategy=MinimumStrategy(min_nodes=1))

    assert 1 == experiment.run(1)

    record = experiment.history()[0].nodes["south"]
    assert "refused" == record.outcome
    assert reason in record.reason
    for name, value in first_weights().items():
        np.testing.assert_allclose(value + 1.0, weights(experiment, tmp_path)[name], rtol=1e-6)


def test_an_unsound_update_fails_a_round_that_needs_everybody(trial, federation):
    trial.start("north", always(Update(raw=b"\x00" * 40)))

    with pytest.raises(RoundFailedError, match=r"north: WRN-704: update refused, payload is not valid"):
        make(federation).run(1)


def test_an_answer_that_comes_twice_counts_once(trial, federation):
    node = trial.start("north", always(shifted(1.0)))
    trial.start("south", always(Silence(then=shifted(1.0))))
    experiment = make(federation)
    recorder = Recorder()
    experiment = make(federation, observers=(recorder,))
    thread, errors = in_thread(experiment, 1)
    recorder.until(UpdateArrived)
    node.repeat()
    trial.nodes["south"].until(TrainRequest)
    trial.nodes["south"].release()
    joined(thread)

    assert [] == errors
    arrived = [event.record.node for event in recorder.events if isinstance(event, UpdateArrived)]
    assert ["north", "south"] == arrived


def test_enough_answers_at_the_deadline_close_the_round_and_late_ones_are_recorded(trial, federation):
    trial.start("north")
    slow = trial.start("south", at_rounds({1: Silence()}))
    strategy = MinimumStrategy(min_nodes=1, deadline_s=2.0)
    experiment = make(federation, node_selection_strategy=strategy)

    assert 1 == experiment.run(1)
    slow.until(TaskCancel)
    slow.release()
    experiment.run(1)

    first = experiment.history()[0]
    assert first.duration_s >= strategy.deadline_s
    assert {"north": "accepted", "south": "late"} == {node: one.outcome for node, one in first.nodes.items()}


def test_too_few_answers_at_the_deadline_fail_the_round(trial, federation):
    trial.start("north")
    trial.start("south", always(Silence()))
    strategy = MinimumStrategy(min_nodes=2, deadline_s=2.0)

    with pytest.raises(RoundFailedError, match="1 of 2 updates at the deadline"):
        make(federation, node_selection_strategy=strategy).run(1)


def test_a_node_that_leaves_is_not_waited_for_when_there_are_enough(trial, federation):
    trial.start("north")
    south = trial.start("south", always(Silence()))
    recorder = Recorder()
    experiment = make(federation, node_selection_strategy=MinimumStrategy(min_nodes=1), observers=(recorder,))
    thread, errors = in_thread(experiment, 1)
    recorder.until(UpdateArrived)
    south.until(TrainRequest)
    south.say(leaving=True)
    joined(thread)

    assert [] == errors
    assert "cancelled" == experiment.history()[0].nodes["south"].outcome


def test_a_revoked_node_is_lost_by_name(trial, tmp_path):
    trial.start("north")
    trial.start("south")
    mailbox = trial.mailbox("lab", renew=lambda update, previous: trial.without("south"))
    with Place(trial, tmp_path / "home", mailbox=mailbox) as federation:
        experiment = make(federation, node_selection_strategy=MinimumStrategy(min_nodes=1))
        experiment.run(1)
        mailbox._apply(RosterUpdate(sender=REGISTRAR, recipients=("lab",), document="{}", signature=""))

        assert 1 == experiment.run(1)
        assert "WRN-306" in experiment.history()[1].nodes["south"].reason


# Stopping


def test_cancel_stops_the_nodes_and_the_run(trial, federation):
    node = trial.start("north", always(Silence()))
    experiment = make(federation)
    thread, errors = in_thread(experiment, 1)
    node.until(TrainRequest)

    experiment.cancel()
    joined(thread)

    assert [ExperimentCancelledError] == [type(error) for error in errors]
    (cancelled,) = node.until(TaskCancel)
    assert node.of(TrainRequest)[0].assignments[0].task_id in cancelled.tasks
    node.until(RunEnd)
    assert RoundState.CANCELLED is experiment.history()[0].state


def test_cancel_without_a_run_is_harmless(trial, federation):
    trial.start("north")
    experiment = make(federation)

    experiment.cancel()

    assert 1 == experiment.run(1)


def test_ctrl_c_stops_the_nodes_and_comes_through(trial, federation):
    class Impatient:
        def on_event(self, event):
            if isinstance(event, UpdateArrived):
                raise KeyboardInterrupt

    trial.start("north")
    south = trial.start("south", always(Silence()))
    experiment = make(federation, observers=(Impatient(),))

    with pytest.raises(KeyboardInterrupt):
        experiment.run(1)

    south.until(RunEnd)
    assert RoundState.CANCELLED is experiment.history()[0].state


def test_an_experiment_runs_once_at_a_time(trial, federation):
    node = trial.start("north", always(Silence()))
    experiment = make(federation)
    thread, errors = in_thread(experiment, 1)
    node.until(TrainRequest)

    with pytest.raises(ExperimentBusyError):
        experiment.run(1)

    node.release()
    joined(thread)
    assert [] == errors


def test_closing_tells_the_nodes_that_nothing_more_comes(trial, federation):
    node = trial.start("north")
    experiment = make(federation)
    experiment.run(1)
    experiment.close()
    experiment.close()

    (ended,) = node.until(RunEnd)
    assert node.of(TrainRequest)[0].run_id == ended.run_id


def test_leaving_the_federation_closes_its_experiments(trial, tmp_path):
    node = trial.start("north")
    with Place(trial, tmp_path / "home") as federation:
        experiment = make(federation)
        experiment.run(1)

    node.until(RunEnd)
    assert 1 == experiment.round_current()


def test_leaving_the_federation_ends_a_run_in_another_thread(trial, federation):
    node = trial.start("north", always(Silence()))
    experiment = make(federation)
    thread, errors = in_thread(experiment, 1)
    node.until(TrainRequest)

    federation.close()

    joined(thread)
    assert [ExperimentCancelledError] == [type(error) for error in errors]
    node.until(RunEnd)


# Resuming


def crash(federation):
    """Leave without a word, as a killed process does."""
    federation.hub.close()
    federation._closed = True


def test_an_experiment_resumes_inside_its_round(trial, tmp_path):
    trial.start("north", always(shifted(1.0, samples_seen=10)))
    south = trial.start("south", at_rounds({2: Silence(then=shifted(3.0))}, otherwise=shifted(3.0)))
    federation = Place(trial, tmp_path / "home")
    recorder = Recorder()
    experiment = make(federation, round_limit=3, observers=(recorder,))

    def die(event):
        if isinstance(event, UpdateArrived) and event.round == 2:
            raise SystemExit

    recorder.on_event = die
    with pytest.raises(SystemExit):
        experiment.run()
    folder = experiment.folder
    crash(federation)
    experiment._dossier.close()
    south.until(TrainRequest, 2)
    south.release()

    with Place(trial, tmp_path / "home") as again:
        resumed = Experiment.resume(folder, federation=again, observers=())
        assert 2 == resumed.run()
        for name, value in first_weights().items():
            np.testing.assert_allclose(value + 6.0, weights(resumed, tmp_path)[name], rtol=1e-6)
        history = resumed.history()
        assert [1, 2, 3] == [record.round for record in history]
        assert history[0].run == history[1].run

    asked_twice = [request for request in south.of(TrainRequest) if request.round == 2]
    assert 1 == len({request.assignments[-1].task_id for request in asked_twice})
    north = trial.nodes["north"]
    assert 1 == len([request for request in north.of(TrainRequest) if request.round == 2])


def test_a_resumed_round_gives_the_bit_identical_model(trial, tmp_path):
    scripts = {
        "north": shifted(0.1, samples_seen=3, samples_train=3),
        "south": shifted(0.7, samples_seen=9, samples_train=9),
    }
    for name, answer in scripts.items():
        trial.start(name, always(answer))
    with Place(trial, tmp_path / "undisturbed") as federation:
        undisturbed = make(federation, round_limit=2)
        undisturbed.run()
        expected = [record.model for record in undisturbed.history()]

    federation = Place(trial, tmp_path / "home")

    class Dies:
        def on_event(self, event):
            if isinstance(event, UpdateArrived) and event.round == 1:
                raise SystemExit

    experiment = make(federation, round_limit=2, observers=(Dies(),))
    with pytest.raises(SystemExit):
        experiment.run()
    folder = experiment.folder
    crash(federation)
    experiment._dossier.close()

    with Place(trial, tmp_path / "home") as again:
        resumed = Experiment.resume(folder, federation=again, observers=())
        resumed.run()
        assert expected == [record.model for record in resumed.history()]


def test_a_finished_experiment_resumes_with_its_settings_and_model(trial, federation, tmp_path):
    trial.start("north")
    strategy = MinimumStrategy(min_nodes=1, deadline_s=60)
    experiment = make(federation, round_limit=1, node_selection_strategy=strategy, name="Heart study")
    experiment.run()
    before = weights(experiment, tmp_path)
    experiment.close()

    resumed = Experiment.resume(experiment.folder, federation=federation, observers=())

    assert experiment.info() == resumed.info()
    assert strategy == resumed.strategy()
    for name, value in weights(resumed, tmp_path).items():
        np.testing.assert_array_equal(before[name], value)
    resumed.close()


def test_a_directory_can_be_moved_and_resumed(trial, federation, tmp_path):
    trial.start("north")
    experiment = make(federation, round_limit=2)
    experiment.run(1)
    experiment.close()
    experiment.folder.rename(tmp_path / "elsewhere")

    with Experiment.resume(tmp_path / "elsewhere", federation=federation, observers=()) as resumed:
        assert 1 == resumed.run()


# Settings


def test_everything_that_is_missing_is_named_at_once(federation):
    with pytest.raises(InvalidSettingsError) as caught:
        Experiment(federation=federation, round_limit=0, model_args={"bad": object()})

    for mistake in ("tags", "training_args", "round_limit", "model_args"):
        assert mistake in str(caught.value)


def test_wrong_training_args_are_refused_at_once(federation):
    with pytest.raises(InvalidArgumentsError, match="epoch"):
        make(federation, training_args={"epoch": 1})


def test_nothing_is_written_before_it_is_needed(federation):
    experiment = make(federation)

    assert experiment.folder is None
    assert not federation.home.experiments.exists()
    assert 0 == experiment.round_current()
    assert 0 == len(experiment.history())


def test_a_model_before_the_first_round_is_refused(trial, federation):
    with pytest.raises(NotTrainedError):
        make(federation).training_plan()


def test_a_folder_is_used_once(trial, federation):
    trial.start("north")
    make(federation, experimentation_folder="mine").run(1)

    with pytest.raises(ExperimentExistsError, match="mine"):
        make(federation, experimentation_folder="mine").run(1)


def test_settings_can_be_changed_between_runs(trial, federation):
    node = trial.start("north")
    experiment = make(federation, round_limit=5)
    experiment.run(1)

    experiment.set_training_args({"epochs": 2})
    experiment.set_round_limit(2)
    experiment.set_strategy(MinimumStrategy(min_nodes=1))
    experiment.run()

    assert [1, 2] == [request.round for request in node.of(TrainRequest)]
    assert 2 == node.of(TrainRequest)[-1].training_args.epochs
    assert 7 == node.of(TrainRequest)[-1].training_args.random_seed
    assert MinimumStrategy(min_nodes=1) == experiment.strategy()


def test_model_args_that_do_not_fit_the_weights_are_refused(trial, federation):
    trial.start("north")
    experiment = make(federation)
    experiment.run(1)

    with pytest.raises(ModelMismatchError):
        experiment.set_model_args({"inputs": 4})
    assert {"inputs": 3} == experiment.model_args()


def test_other_tags_lead_to_other_data(trial, federation):
    trial.start("north", datasets=(dataset("north"), dataset("north", name="lung", tags=("lung",))))
    experiment = make(federation)
    experiment.run(1)

    experiment.set_tags("lung")

    assert "lung" == experiment.training_data()["north"].name


def test_a_seed_is_drawn_and_recorded_if_none_is_given(trial, federation):
    node = trial.start("north")
    experiment = make(federation, training_args={"num_updates": 1})
    experiment.run(2)

    first, second = node.of(TrainRequest)
    assert first.training_args.random_seed is not None
    assert first.training_args.random_seed == second.training_args.random_seed
    assert first.seed != second.seed


# Models of any size


@pytest.fixture
def big(monkeypatch):
    """Make every model count as too big to ride inline."""
    monkeypatch.setattr("researcher.parcels.INLINE_BYTES", 0)
    monkeypatch.setattr("researcher.holdings.SMALL_BYTES", 0)


def test_a_big_model_goes_in_chunks_once_for_all(trial, federation, big):
    nodes = [trial.start("north"), trial.start("south")]

    assert 2 == make(federation).run(2)
    assert [False, False] == [request.model.inline for request in nodes[0].of(TrainRequest)]


def test_a_big_update_comes_in_chunks_and_is_confirmed(trial, federation):
    node = trial.start("north", always(shifted(1.0, chunk_bytes=1024)))
    experiment = make(federation, model_args={"inputs": 3000})

    assert 1 == experiment.run(1)
    (receipt,) = node.until(PayloadReceipt)
    assert experiment.history()[0].nodes["north"].digest == receipt.sha256


@pytest.mark.parametrize("lost", [{3}, {11}, set(range(12))])
def test_lost_chunks_are_asked_for_again(trial, tmp_path, lost):
    node = trial.start("north", always(shifted(1.0, chunk_bytes=1024, lose=frozenset(lost))))
    timeouts = Timeouts(reply_s=0.3)
    with Place(trial, tmp_path / "home", timeouts=timeouts) as federation:
        assert 1 == make(federation, model_args={"inputs": 3000}).run(1)
    assert lost == {index for request in node.of(ChunkRequest) for index in request.indices}


def test_an_update_that_stays_damaged_is_refused_with_a_reason(trial, federation):
    node = trial.start("north", always(shifted(1.0, chunk_bytes=1024, damaged=True)))
    experiment = make(federation, model_args={"inputs": 3000})

    with pytest.raises(RoundFailedError, match="its bytes are not those that it announces"):
        experiment.run(1)
    assert [tuple(range(12))] * 2 == [request.indices for request in node.of(ChunkRequest)]


def test_a_big_update_that_is_refused_is_confirmed_too(trial, federation):
    nan = dataclasses.replace(shifted(float("nan")), chunk_bytes=1024)
    node = trial.start("north", always(nan))

    with pytest.raises(RoundFailedError, match="not finite"):
        make(federation, model_args={"inputs": 3000}).run(1)
    node.until(PayloadReceipt)
