"""Do the tasks of one run, keeping plan, data and model warm between them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Final, Literal

from common.data import DataManager, Parts
from common.messages import LossPoint, Validation
from common.training_plans.base import TrainingPlan
from common.training_plans.guard import PlanCode
from common.training_plans.seeding import derived_seed, seed_everything
from common.training_plans.source import load_plan
from node.worker.exchange import SavedUpdate, received_model, save_update
from node.worker.protocol import LOSS_POINTS, Done, Progress, RunTask

log = logging.getLogger(__name__)

REPORT_EVERY_S: Final = 0.2
"""Least time between two reports of losses; a task that is done sooner sends none of its own."""


class Session:
    """The warm state of one worker.

    Plan and model are made again when source or model arguments change, the data when the data set or its loading changes. After a
    failure nothing is kept. The model file is read for each task, so no task can see what the one before made of the weights.
    """

    def __init__(self) -> None:
        self._plan: tuple[Hashable, TrainingPlan] | None = None
        self._data: tuple[Hashable, DataManager] | None = None
        self._parts: tuple[Hashable, Parts] | None = None

    def run(self, task: RunTask, report: Callable[[Progress], None]) -> Done:
        """Do one task: validate, train, validate and write the update, as far as the task asks for it.

        Args:
            task: What to do.
            report: Takes losses while training goes on.

        Raises:
            PlanError: If the plan cannot be used or fails.
            DataError: If the data cannot be used.
            InvalidTensorsError: If the model file is damaged, or not encoded as the task says.
            MissingExtraError: If something is compressed and the package for that is not installed.
            ModelMismatchError: If the model file does not fit the plan's model.
        """
        try:
            return self._run(task, report)
        except BaseException:
            self._plan = self._data = self._parts = None
            raise

    def _run(self, task: RunTask, report: Callable[[Progress], None]) -> Done:
        watch = _Stopwatch()
        args = task.training_args
        plan = self._ready_plan(task)
        parts = self._ready_parts(plan, task)
        model = received_model(task)
        plan.import_model(model)
        watch.lap("loaded")

        validations: list[Validation] = []
        if args.test_on_global_updates or not task.train:
            validations += _validated(plan, parts, task, on="global")
        watch.lap("validated")

        curve = _Curve(task, report)
        seen, saved = 0, None
        if task.train:
            seed = derived_seed("round", task.seed, task.node_id)
            seed_everything(seed)
            parts.generator.manual_seed(seed)
            seen = plan.train(parts.train, curve.add)
            watch.lap("trained")
            if args.test_on_local_updates:
                validations += _validated(plan, parts, task, on="local")
            watch.lap("validated")
            saved = save_update(task, plan.after_training_params(), model)
            watch.lap("saved")
        return _done(task, parts, watch, seen=seen, losses=curve.points, validations=validations, saved=saved)

    def _ready_plan(self, task: RunTask) -> TrainingPlan:
        args = task.training_args
        key = (task.plan_hash, task.plan_name, repr(task.model_args), repr(args))
        if self._plan is None or self._plan[0] != key:
            kind = load_plan(Path(task.plan_path), task.plan_name, task.plan_hash)
            with PlanCode(kind, "__init__"):
                plan = kind()
            plan.prepare(model_args=task.model_args, training_args=args)
            self._plan = (key, plan)
            self._data = self._parts = None
        plan = self._plan[1]
        plan.enter(
            node_id=task.node_id,
            round_=task.round,
            training_args=args,
            dataset_path=Path(task.dataset.path),
        )
        return plan

    def _ready_parts(self, plan: TrainingPlan, task: RunTask) -> Parts:
        args, source = task.training_args, task.dataset
        # the split is the same in all rounds, and in another experiment with the same seed
        campaign = task.experiment_id if args.random_seed is None else args.random_seed
        seed = derived_seed("split", task.seed if args.shuffle_testing_dataset else campaign, task.node_id)
        key = repr((source, args))  # the plan sees all of them when it chooses its data
        if self._data is None or self._data[0] != key:
            seed_everything(derived_seed("data", campaign, task.node_id))
            manager = plan.call(plan.training_data, **plan.loader_args())
            if not isinstance(manager, DataManager):
                plan.breaks_contract("training_data", f"returned {type(manager).__name__}, not a DataManager")
            with PlanCode(type(plan)):
                manager.bind(Path(source.path), source.parameters, data_type=source.data_type)
            self._data, self._parts = (key, manager), None
        split = (seed, args.test_ratio, args.test_batch_size)
        if self._parts is None or self._parts[0] != split:
            with PlanCode(type(plan)):
                parts = self._data[1].split(
                    test_ratio=args.test_ratio,
                    seed=seed,
                    loader_args=args.loader_args,
                    test_batch_size=args.test_batch_size,
                )
            self._parts = (split, parts)
        return self._parts[1]


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

    def __init__(self, task: RunTask, report: Callable[[Progress], None]) -> None:
        self.points: list[LossPoint] = []
        self._fresh: list[LossPoint] = []
        self._task = task
        self._report = report
        self._told = time.monotonic()

    def add(self, point: LossPoint) -> None:
        """Take note of one point."""
        _keep(self.points, point)
        _keep(self._fresh, point)
        if (now := time.monotonic()) - self._told >= REPORT_EVERY_S:
            self._report(Progress(task_id=self._task.task_id, losses=tuple(self._fresh)))
            self._fresh, self._told = [], now


def _keep(points: list[LossPoint], point: LossPoint) -> None:
    """Append a point, dropping every other one before it once there are too many."""
    if len(points) == LOSS_POINTS:
        del points[::2]
    points.append(point)


def _validated(
    plan: TrainingPlan, parts: Parts, task: RunTask, *, on: Literal["global", "local"]
) -> list[Validation]:
    if not parts.test.samples:
        log.warning(
            "nothing to validate on", extra={"action": "validation_skipped", "task": task.task_id, "on": on}
        )
        return []
    metrics = plan.validate(parts.test)
    return [Validation(on=on, samples=parts.test.samples, metrics=metrics)]


def _done(
    task: RunTask,
    parts: Parts,
    watch: _Stopwatch,
    *,
    seen: int,
    losses: list[LossPoint],
    validations: list[Validation],
    saved: SavedUpdate | None,
) -> Done:
    return Done(
        task_id=task.task_id,
        samples_seen=seen,
        samples_train=parts.train.samples,
        samples_test=parts.test.samples,
        losses=tuple(losses),
        validations=tuple(validations),
        update_sha256=saved.sha256 if saved else None,
        update_size=saved.size_bytes if saved else None,
        update_decoded_bytes=saved.decoded_bytes if saved else None,
        loaded_s=watch.seconds["loaded"],
        trained_s=watch.seconds["trained"],
        validated_s=watch.seconds["validated"],
        saved_s=watch.seconds["saved"],
    )
