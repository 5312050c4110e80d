"""Check what leaves this node with a task: a worker runs the code of others, and nothing that it says is believed.

What can carry data are texts, so none of a worker's leaves: metrics have names that the plan's source declares, and of an
error go out its code, its line and what both sides know already. Counts and sums of a validation have one form for all plans.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from typing import Final

from common.errors import (
    PlanFailedError,
    TaskError,
    TooFewSamplesError,
    UpdateUnsoundError,
    WarrenError,
    WorkerFaultError,
    catalogue,
)
from common.limits import METRICS
from common.messages import LossPoint, TrainRequest
from common.training_plans.metric_names import is_declared
from node.policy import STATISTICS, Policy
from node.registry import Dataset
from node.task_events import (
    Failure,
)
from node.worker.pace import Bucket
from node.worker.protocol import LOSS_POINTS, Done, Failed

_FAILED_AT: Final = re.compile(r"(\w+) at line \d+ of the plan, in ([\w.<>]+|the module itself)")
_QUOTED: Final = re.compile(r"'([^']{1,200})'")
_MOST_NAMED: Final = 3
_KNOWN_ERRORS: Final = frozenset(
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException)
) | {"OutOfMemoryError", "LinAlgError"}


def refusal(done: Done, request: TrainRequest, policy: Policy, dataset: Dataset) -> WarrenError | None:
    """Return why the result of a task must not leave, or None if it may; its tensors are looked at elsewhere.

    Args:
        done: What the worker says that it did.
        request: What was asked for.
        policy: What the node allows.
        dataset: What it was done on.
    """
    apart = dataset.test
    own = done.samples_train + (done.samples_test if apart is None else 0)
    if own > dataset.samples or (apart is not None and done.samples_test > apart.samples):
        return _unsound(f"it counts more samples than the {dataset.samples} that there are")
    used = request.train or request.measures
    for part in (done.samples_train if used else 0, done.samples_test if done.validations else 0):
        if 0 < part < policy.minimum_samples:
            return TooFewSamplesError(samples=part, minimum=policy.minimum_samples)
    if request.measures != (done.moments is not None):
        return _unsound("moments of columns are told only if they are asked for, and then always")
    if (problem := _moments_problem(done, dataset, policy)) is not None:
        return problem
    if len({one.on for one in done.validations}) < len(done.validations):
        return _unsound("one validation is told twice")
    for one in done.validations:
        if one.samples != done.samples_test:
            return _unsound("a validation is not of the test part")
        if not one.samples_fit:
            return _unsound("its counts are not of the test part")
        if len(one.metrics) > METRICS:
            return _unsound(f"there are more than {METRICS} metrics")
        for name in one.metrics:
            if not is_declared(name, request.source):
                return _unsound("a metric has a name that is not in the plan")
            if policy.allowed_metrics is not None and name not in policy.allowed_metrics:
                return _unsound("a metric is not one of the allowed")
    return None


def screened(done: Done, policy: Policy) -> Done:
    """Return what may leave of a sound result: counts and sums only where the policy names them, or names no metrics at all."""
    if policy.allowed_metrics is None or STATISTICS in policy.allowed_metrics:
        return done
    kept = tuple(one.model_copy(update={"statistics": None}) for one in done.validations)
    return done.model_copy(update={"validations": kept})


def told(report: Failed, request: TrainRequest, dataset: Dataset) -> Failure:
    """Return what the researcher is told of a failure: code and line, and words that hold nothing of the worker's own.

    Those are the summary of the error, and which columns or words of the request's arguments it is about.
    """
    line = report.plan_line
    if line is not None and not 1 <= line <= 1 + request.source.count("\n"):
        line = None
    if report.code == PlanFailedError.code and line is not None:
        return Failure(report.code, _failed_at(report.text, line, request.source), line)
    kind = next((kind for kind in catalogue() if kind.code == report.code), WorkerFaultError)
    text = (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")
    known = _column_names(dataset) | set(_texts(request))
    named = [name for name in dict.fromkeys(_QUOTED.findall(report.text)) if name in known]
    if named:
        text = f"{text}: {', '.join(map(repr, named[:_MOST_NAMED]))}"
    if kind is WorkerFaultError:
        error = next((word for word in report.text.split() if word in _KNOWN_ERRORS), "an error")
        text = kind.text.format(error_type=error)
    return Failure(kind.code, text, line)


class LossPace:
    """Bounds how many losses of one task leave while it runs."""

    def __init__(self, per_s: int) -> None:
        self._bucket = Bucket(LOSS_POINTS, per_s)

    def admitted(self, losses: tuple[LossPoint, ...]) -> tuple[LossPoint, ...]:
        """Return the newest of the losses that may leave now; the others are dropped."""
        count = len(losses)
        while count and self._bucket.take(count):
            count //= 2
        return losses[len(losses) - count :]


def _moments_problem(done: Done, dataset: Dataset, policy: Policy) -> WarrenError | None:
    """Return why moments of columns must not leave, or None if they may: those of few values tell too much of each."""
    known = _column_names(dataset) | {str(place) for place in range(len(_column_names(dataset)))}
    for one in done.moments or ():
        if one.name not in known:
            return _unsound("it tells moments of a column that there is not")
        if one.count > done.samples_train:
            return _unsound("it tells moments of more values than the training part has")
        if 0 < one.count < policy.minimum_samples:
            return TooFewSamplesError(samples=one.count, minimum=policy.minimum_samples)
    return None


def _column_names(dataset: Dataset) -> set[str]:
    joined = () if dataset.joined is None else dataset.joined.columns
    return {column.name for column in (*dataset.columns, *joined)}


def _unsound(reason: str) -> TaskError:
    return UpdateUnsoundError(reason=reason)


def _texts(request: TrainRequest) -> Iterator[str]:
    """Yield every text in the arguments of a request."""
    waiting: list[object] = [request.model_args, request.training_args.model_dump(mode="json")]
    while waiting:
        match waiting.pop():
            case str(text):
                yield text
            case dict(values):
                waiting += values.values()
            case list(values):
                waiting += values
            case _:
                pass  # numbers and nothing


def _failed_at(text: str, line: int, source: str) -> str:
    """Return where a plan failed; the kind of error is one that everybody has, the place one that the source names."""
    match = _FAILED_AT.fullmatch(text)
    kind = match[1] if match and match[1] in _KNOWN_ERRORS else "an error"
    where = match[2] if match else ""
    names = set(re.findall(r"\w+", source)) | {
        "locals",
        "lambda",
        "listcomp",
        "genexpr",
        "dictcomp",
        "setcomp",
    }
    if where != "the module itself" and not set(re.findall(r"\w+", where)) <= names:
        where = "the plan"
    return PlanFailedError.text.format(error_type=kind, line=line, where=where or "the plan")
