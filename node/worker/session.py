"""Do the tasks of one run, keeping plan, data and model warm between them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from common.data import DataManager, Parts
from common.messages import LossPoint, Validation, by_name
from common.messages.moments import MOMENTS
from common.training_plans.base import Effort, TrainingPlan
from common.training_plans.guard import PlanCode
from common.training_plans.seeding import derived_seed, seed_everything
from common.training_plans.source import load_plan
from node.gpus import Choice, choose_device
from node.worker.correction import corrector
from node.worker.exchange import Received, received, save_update
from node.worker.kept import Kept, Section, keep
from node.worker.personal import ditto, fine_tune
from node.worker.protocol import (
    LOSS_POINTS,
    DatasetSource,
    Done,
    Made,
    Order,
    Progress,
    RunSpec,
    ValidatedOn,
)

log = logging.getLogger(__name__)

REPORT_EVERY_S: Final = 0.2
"""Least time between two reports of losses; a task that is done sooner sends none of its own."""


class Session:
    """The warm state of one worker.

    Plan and model are made again when source or model arguments change, the data when the data set or its loading changes. After a
    failure nothing is kept. The model is read for each task, so no task can see what the one before made of the weights.
    """

    def __init__(self) -> None:
        self._run: RunSpec | None = None
        self._made_of: tuple[Hashable, Hashable] = (None, None)
        """What the plan and what the data depend on."""
        self._plan: TrainingPlan | None = None
        self._data: tuple[DataManager, DataManager | None] | None = None
        self._parts: tuple[Hashable, Parts] | None = None

    def run(self, order: Order, report: Callable[[Progress], None]) -> Made:
        """Do one task: validate, train, validate and write the update, as far as the task asks for it.

        Args:
            order: What to do.
            report: Takes losses while training goes on.

        Raises:
            PlanError: If the plan cannot be used or fails.
            DataError: If the data cannot be used.
            InvalidTensorsError: If the model is damaged, or not encoded as the order says.
            MissingExtraError: If something is compressed and the package for that is not installed.
            ModelMismatchError: If the model does not fit the plan's model.
        """
        try:
            return self._do(order, report)
        except BaseException:
            self._plan = self._data = self._parts = None
            raise

    def _do(self, order: Order, report: Callable[[Progress], None]) -> Made:
        watch = _Stopwatch()
        self._forget_what_changed(order.run)
        args = order.run.training_args
        choice = _choice(order)
        if choice.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        plan = self._ready_plan(order, choice)
        data, test_set = self._ready_data(plan, order)
        if order.run.measures:
            return Made(_measured(plan, data, order, watch, choice))
        parts = self._ready_parts(plan, order, data, test_set)
        came = received(order)
        kept = Kept(order.state)
        keeps: dict[Section, Mapping[str, Tensor]] = {}
        _begin(plan, came, kept)
        watch.lap("loaded")

        validations: list[Validation] = []
        if args.test_on_global_updates or not order.task.train:
            validations += _validated(plan, parts, order, on="global")
            if args.finetune_updates is not None:
                fine_tune(plan, parts, order, args.finetune_updates)
                validations += _validated(plan, parts, order, on="personal")
                _begin(plan, came, kept)
        watch.lap("validated")

        curve = _Curve(order, report)
        seen, saved, effort = 0, None, Effort()
        if order.task.train:
            correct = corrector(order, plan, kept, came.carried)
            plan.steer(correct.steering if correct else None)
            seed_everything(derived_seed("round", order.task.seed, order.run.node_id))
            _take_up(parts, order)
            if args.keep_optimizer:
                plan.recall_optimizer(kept.section("optimizer"))
            seen = plan.train(plan.preprocessed(parts.train), curve.add)
            effort = plan.effort()
            if args.keep_optimizer:
                keeps["optimizer"] = plan.optimizer_memory()
                plan.recall_optimizer({})
            watch.lap("trained")
            if args.test_on_local_updates:
                validations += _validated(plan, parts, order, on="local")
            watch.lap("validated")
            sent = plan.after_training_params()
            saved = save_update(order, sent, came.model, kept)
            keeps |= {"residual": saved.residual, "plan": _copies(plan.kept_params())}
            if correct is not None:
                keeps[correct.section] = correct.after(plan, sent, effort)
            watch.lap("saved")
        if args.ditto_lambda is not None:
            _begin(plan, came, kept)
            keeps["ditto"] = ditto(plan, parts, order, kept, args.ditto_lambda)
            watch.lap("trained")
            if args.test_on_global_updates or args.test_on_local_updates or not order.task.train:
                validations += _validated(plan, parts, order, on="personal")
            watch.lap("validated")
        state = keep(order.run.state_path, keeps) if order.task.train else None
        watch.lap("saved")
        done = Done(
            **_facts(order, watch, choice),
            samples_seen=seen,
            samples_train=parts.train.samples,
            samples_test=parts.test.samples,
            steps=effort.steps,
            lr_sum=effort.lr_sum,
            losses=tuple(curve.points),
            validations=tuple(validations),
            update_decoded_bytes=saved.decoded_bytes if saved else None,
            gpu_bytes=None if choice.device == "cpu" else torch.cuda.max_memory_reserved(),
        )
        return Made(done, saved.content if saved else None, state)

    def _forget_what_changed(self, run: RunSpec) -> None:
        if run is self._run:
            return
        plan = (run.plan_hash, run.plan_name, repr(run.model_args), run.training_args.model_dump_json())
        sets = (run.dataset, run.test_dataset, run.joined_dataset)
        made_of = plan, tuple(one and one.model_dump_json() for one in sets)
        if made_of[0] != self._made_of[0]:
            self._plan = None
        if made_of != self._made_of:
            self._data = self._parts = None
        self._run, self._made_of = run, made_of

    def _ready_plan(self, order: Order, choice: Choice) -> TrainingPlan:
        run = order.run
        if self._plan is None:
            kind = load_plan(Path(run.plan_path), run.plan_name, run.plan_hash)
            with PlanCode(kind, "__init__"):
                plan = kind()
            plan.prepare(model_args=run.model_args, training_args=run.training_args)
            self._plan = plan
        self._plan.enter(
            node_id=run.node_id,
            round_=order.task.round,
            training_args=run.training_args,
            dataset_path=Path(run.dataset.path),
            device=choice.device,
        )
        return self._plan

    def _ready_data(self, plan: TrainingPlan, order: Order) -> tuple[DataManager, DataManager | None]:
        """Return the data set of a task, and the one to validate on, if it names one."""
        run = order.run
        if self._data is None:
            seed_everything(derived_seed("data", _campaign(order), run.node_id))
            test_set = None if run.test_dataset is None else _bound(plan, order, run.test_dataset, None)
            self._data = _bound(plan, order, run.dataset, run.joined_dataset), test_set
        return self._data

    def _ready_parts(
        self, plan: TrainingPlan, order: Order, data: DataManager, test_set: DataManager | None
    ) -> Parts:
        args, seed = order.run.training_args, _split_seed(order)
        split = (seed, args.test_ratio, args.fold, args.test_batch_size, order.run.moments)
        if self._parts is None or self._parts[0] != split:
            with PlanCode(type(plan)):
                parts = data.split(
                    test_ratio=args.test_ratio,
                    seed=seed,
                    fold=args.fold,
                    loader_args=args.loader_args,
                    test_batch_size=args.test_batch_size,
                    test_set=test_set,
                    moments=by_name(order.run.moments),
                )
            self._parts = (split, parts)
        return self._parts[1]


def _split_seed(order: Order) -> int:
    """Return what decides the split: the same in all rounds, and in another experiment with the same seed."""
    shuffled = order.run.training_args.shuffle_testing_dataset
    return derived_seed("split", order.task.seed if shuffled else _campaign(order), order.run.node_id)


def _measured(plan: TrainingPlan, data: DataManager, order: Order, watch: _Stopwatch, choice: Choice) -> Done:
    """Return the moments of the columns that the plan standardises or fills, from the training part."""
    args = order.run.training_args
    with PlanCode(type(plan)):
        moments, train, test = data.measure(
            test_ratio=args.test_ratio, seed=_split_seed(order), fold=args.fold
        )
    if not 0 < len(moments) <= MOMENTS:
        plan.breaks_contract(
            "training_data",
            f"has {len(moments)} columns with moments of the federation, and 1 to {MOMENTS} can be",
        )
    watch.lap("loaded")
    return Done(
        **_facts(order, watch, choice),
        samples_seen=0,
        samples_train=train,
        samples_test=test,
        losses=(),
        validations=(),
        moments=moments,
    )


def _bound(
    plan: TrainingPlan, order: Order, source: DatasetSource, joined: DatasetSource | None
) -> DataManager:
    """Return the plan's data, read from this data set and the one that is joined to it."""
    plan.enter(
        node_id=order.run.node_id,
        round_=order.task.round,
        training_args=order.run.training_args,
        dataset_path=Path(source.path),
    )
    manager = plan.call(plan.training_data, **plan.loader_args())
    if not isinstance(manager, DataManager):
        plan.breaks_contract("training_data", f"returned {type(manager).__name__}, not a DataManager")
    if manager.joins != (joined is not None):
        named = "names a second data set by join_tags" if joined else "names no second data set by join_tags"
        joins = "joins two data sets" if manager.joins else "joins nothing"
        plan.breaks_contract("training_data", f"{joins}, and the experiment {named}")
    with PlanCode(type(plan)):
        manager.bind(Path(source.path), source.parameters, data_type=source.data_type)
        if joined is not None:
            manager.join(Path(joined.path), joined.parameters, data_type=joined.data_type)
    return manager


def _campaign(order: Order) -> int | str:
    """Return what seeds whatever is the same in all rounds."""
    seed = order.run.training_args.random_seed
    return order.run.experiment_id if seed is None else seed


def _choice(order: Order) -> Choice:
    """Choose the device of a task, and log if it is another than was wanted."""
    choice = choose_device(
        order.run.gpu, asked=order.run.training_args.use_gpu, found=torch.cuda.device_count()
    )
    if choice.notice is not None:
        log.warning(
            "no gpu", extra={"action": "gpu_missing", "task": order.task.task_id, "why": choice.notice}
        )
    return choice


def _take_up(parts: Parts, order: Order) -> None:
    """Go to the batches of a round.

    With `num_updates` all rounds of a node are one stream, and this one begins behind the updates that count: a round that the node
    did not take part in, or that failed, moves nothing, and a task that is done again gets the same batches. With `epochs` each
    round is whole passes in an order of its own.
    """
    if order.run.training_args.num_updates is None:
        parts.passes.begin(derived_seed("round", order.task.seed, order.run.node_id))
    else:
        parts.passes.begin(
            derived_seed("stream", _campaign(order), order.run.node_id), order.task.updates_done
        )


class _Stopwatch:
    """Adds up the seconds of each step."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("loaded", "trained", "validated", "saved"), 0.0)
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """Count the time since the last lap as that step's."""
        now = time.perf_counter()
        self.seconds[step] += now - self._last
        self._last = now


class _Curve:
    """Keeps the losses of a task, thinned to what one message holds, and reports them while it takes long."""

    def __init__(self, order: Order, report: Callable[[Progress], None]) -> None:
        self.points: list[LossPoint] = []
        self._fresh: list[LossPoint] = []
        self._order = order
        self._report = report
        self._told = time.monotonic()

    def add(self, point: LossPoint) -> None:
        """Take note of one point."""
        _keep(self.points, point)
        _keep(self._fresh, point)
        if (now := time.monotonic()) - self._told >= REPORT_EVERY_S:
            self._report(Progress(task_id=self._order.task.task_id, losses=tuple(self._fresh)))
            self._fresh, self._told = [], now


def _keep(points: list[LossPoint], point: LossPoint) -> None:
    """Append a point, dropping every other one before it once there are too many."""
    if len(points) == LOSS_POINTS:
        del points[::2]
    points.append(point)


def _begin(plan: TrainingPlan, came: Received, kept: Kept) -> None:
    """Bring the model to where the round starts: as it was received, and what is the node's own as it was kept."""
    plan.import_model(came.model)
    own = {name: value for name, value in kept.section("plan").items() if name in plan.kept_params()}
    plan.set_params({**plan.first_params(), **own})


def _copies(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in params.items()}


def _validated(plan: TrainingPlan, parts: Parts, order: Order, *, on: ValidatedOn) -> list[Validation]:
    if not parts.test.samples:
        log.warning(
            "nothing to validate on",
            extra={"action": "validation_skipped", "task": order.task.task_id, "on": on},
        )
        return []
    found = plan.validate(parts.test)
    return [Validation(on=on, samples=parts.test.samples, metrics=found.metrics, statistics=found.statistics)]


def _facts(order: Order, watch: _Stopwatch, choice: Choice) -> dict[str, Any]:
    """Return what every result tells: whose it is, where it was made, and the seconds of each step."""
    return {
        "task_id": order.task.task_id,
        "device": "cpu" if choice.device == "cpu" else "gpu",
        "notice": choice.notice,
        **{f"{step}_s": seconds for step, seconds in watch.seconds.items()},
    }
