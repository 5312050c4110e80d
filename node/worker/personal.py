"""Make models that fit one node's data, and never leave it: local fine-tuning, and Ditto."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from common.data import Parts
from common.training_args import TrainingArgs
from common.training_plans.base import TrainingPlan
from common.training_plans.seeding import derived_seed, seed_everything
from common.training_plans.steering import Steering
from node.worker.kept import Kept
from node.worker.protocol import Order

Tensors = Mapping[str, Tensor]


def fine_tune(plan: TrainingPlan, parts: Parts, order: Order, updates: int) -> None:
    """Train the model that was received for some steps, to be validated and forgotten."""
    plan.steer(None)
    _train(plan, parts, order, {"num_updates": updates, "fedprox_mu": None})


def ditto(plan: TrainingPlan, parts: Parts, order: Order, kept: Kept, strength: float) -> Tensors:
    """Bring the personal model v of Ditto (Li et al., ICML 2021, algorithm 1) into the plan, trained if the task trains, and return it.

    It takes as many steps as the global model, each with the gradient g(v) + lambda (v - w), where w is the global model that was
    received, which the plan holds when this is called; v is kept at the node from round to round and begins as w.

    Args:
        plan: Holds the global model.
        parts: The data set.
        order: What was asked for.
        kept: Holds the personal model of the round before.
        strength: Lambda, which pulls towards the global model; 0 trains without the others.

    Raises:
        PlanContractError: If the plan cannot be personalised.
    """
    towards = {name: value.clone() for name, value in plan.trainable_params().items()}
    plan.set_params(kept.section("ditto"))
    if order.task.train:
        plan.steer(Steering(pull=strength, towards=towards))
        _train(plan, parts, order, {"fedprox_mu": None})
        plan.steer(None)
    return plan.all_params()


def _train(plan: TrainingPlan, parts: Parts, order: Order, changes: Mapping[str, object]) -> None:
    """Train with other arguments, and with random numbers that those of the global model do not depend on."""
    args = order.run.training_args
    seed = derived_seed("personal", order.task.seed, order.run.node_id)
    seed_everything(seed)
    parts.passes.begin(seed)
    _enter(plan, order, args.model_copy(update=dict(changes)))
    try:
        plan.train(plan.preprocessed(parts.train), lambda _: None)
    finally:
        _enter(plan, order, args)


def _enter(plan: TrainingPlan, order: Order, args: TrainingArgs) -> None:
    plan.enter(
        node_id=order.run.node_id, round_=order.task.round, training_args=args, dataset_path=plan.dataset_path
    )
