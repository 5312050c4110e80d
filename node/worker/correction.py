"""Correct the gradients of a node as the aggregator of the experiment asks, and make what the node keeps for that."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from common.messages import FedDynCorrection, ScaffoldCorrection
from common.training_plans.base import Effort, TrainingPlan
from common.training_plans.steering import Steering
from node.worker.kept import Kept, Section
from node.worker.protocol import Order

log = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]


class Corrector(Protocol):
    """What one algorithm does at a node in one round."""

    section: Section
    steering: Steering

    def after(self, plan: TrainingPlan, sent: Tensors, effort: Effort) -> Tensors:
        """Return what to keep for the next round.

        Args:
            plan: What was trained.
            sent: The parameters that leave the node, before encoding.
            effort: What training took.
        """
        ...


def corrector(order: Order, plan: TrainingPlan, kept: Kept, carried: Tensors) -> Corrector | None:
    """Return what a task asks for beyond plain training, with the plan's model as it was received; None for nothing.

    Raises:
        PlanContractError: If the gradients of the plan cannot be corrected.
    """
    match order.run.correction:
        case None:
            return None
        case ScaffoldCorrection():
            return Scaffold(plan, _own(order, kept, "scaffold"), carried)
        case FedDynCorrection(alpha=alpha):
            return FedDyn(plan, _own(order, kept, "feddyn"), alpha)


class Scaffold:
    """SCAFFOLD with option II (Karimireddy et al., ICML 2020, algorithm 1).

    Each step is y = y - lr (g - c_i + c); afterwards c_i = c_i - c + (x - y) / (K lr), K lr being the sum of the learning rates of
    all steps. What is missing, of c or c_i, counts as zero.
    """

    section: Section = "scaffold"

    def __init__(self, plan: TrainingPlan, own: Tensors, common: Tensors) -> None:
        self._start = _copies(plan.trainable_params())
        offsets = {
            name: common.get(name, torch.zeros(())).to(value) - own.get(name, torch.zeros(())).to(value)
            for name, value in self._start.items()
        }
        self.steering = Steering(offsets)

    def after(self, plan: TrainingPlan, sent: Tensors, effort: Effort) -> Tensors:
        """Return c_i; see `Corrector.after`."""
        lr_sum = effort.lr_sum
        if lr_sum is None or lr_sum <= 0:
            plan.breaks_contract("init_optimizer", "must give all parameters one learning rate for SCAFFOLD")
        return {
            name: (start - sent[name].to(start)) / lr_sum - self.steering.offsets[name]
            for name, start in self._start.items()
        }


class FedDyn:
    """Dynamic regularization (Acar et al., ICLR 2021, algorithm 1).

    Each step is taken with the gradient g - h_i + alpha (y - x); afterwards h_i = h_i - alpha (y - x). What is missing of h_i counts as zero.
    """

    section: Section = "feddyn"

    def __init__(self, plan: TrainingPlan, own: Tensors, alpha: float) -> None:
        self._start = _copies(plan.trainable_params())
        offsets = {
            name: -own.get(name, torch.zeros(())).to(value).expand_as(value)
            for name, value in self._start.items()
        }
        self.steering = Steering(offsets, pull=alpha, towards=self._start)

    def after(self, plan: TrainingPlan, sent: Tensors, effort: Effort) -> Tensors:
        """Return h_i; see `Corrector.after`."""
        del plan, effort
        alpha = self.steering.pull
        return {
            name: -self.steering.offsets[name] - alpha * (sent[name].to(start) - start)
            for name, start in self._start.items()
        }


def _own(order: Order, kept: Kept, section: Section) -> Tensors:
    own = kept.section(section)
    if not own and order.task.state_of is not None:
        log.warning(
            "nothing was kept, starting afresh",
            extra={"action": "state_missing", "task": order.task.task_id, "section": section},
        )
    return own


def _copies(params: Tensors) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in params.items()}
