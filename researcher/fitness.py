"""See that an experiment makes the model of its plan in a way in which that model can be made."""

from __future__ import annotations

from typing import Final

from common.errors import PlanSettingsError
from common.training_plans.base import TrainingPlan
from researcher.aggregators import PLAN_BOUND, Aggregator, aggregator_of
from researcher.settings import ExperimentSettings
from researcher.strategies import AsyncStrategy

_LOSSLESS: Final = "raw"


def default_aggregator(plan: type[TrainingPlan]) -> Aggregator | None:
    """Return the aggregator that a plan needs; none if that is for the researcher to choose."""
    return None if plan.aggregator is None else aggregator_of({"name": plan.aggregator})


def check_fitness(plan: type[TrainingPlan], settings: ExperimentSettings) -> None:
    """Make sure that settings suit a plan.

    A plan that names its aggregator gets no other, and what its nodes send must arrive in its own round and bit by bit. Such aggregators take no other
    plan.

    Raises:
        PlanSettingsError: If they do not; says what the plan needs.
    """
    needed, given = plan.aggregator, type(settings.aggregator).__name__
    if needed is None:
        if given in PLAN_BOUND:
            raise _misfit(plan, "an aggregator that makes a model out of models", given)
        return
    if given != needed:
        raise _misfit(plan, f"the aggregator {needed}", given)
    if settings.agg_optimizer is not None:
        raise _misfit(plan, "no agg_optimizer", "one")
    if settings.encoding.name != _LOSSLESS:
        raise _misfit(plan, "the encoding raw or raw+zstd", str(settings.encoding))
    if isinstance(settings.strategy, AsyncStrategy):
        raise _misfit(plan, "a strategy that waits for the nodes of a round", "AsyncStrategy")


def check_recorded(plan_name: str, recorded: str, aggregator: Aggregator) -> None:
    """Make sure that an aggregator can go on where the recorded one, given by name, stopped.

    Raises:
        PlanSettingsError: If only one of the two is bound to its plans.
    """
    given = type(aggregator).__name__
    if given != recorded and not PLAN_BOUND.isdisjoint((given, recorded)):
        raise PlanSettingsError(plan=plan_name, needed=f"the aggregator {recorded}", given=given)


def _misfit(plan: type[TrainingPlan], needed: str, given: str) -> PlanSettingsError:
    return PlanSettingsError(plan=plan.__name__, needed=needed, given=given)
