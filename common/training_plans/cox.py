"""Fit Cox's proportional hazards model exactly, with a baseline hazard of its own at each node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

import torch
from torch import Tensor

from common.data import Loader
from common.training_plans.newton import NewtonArguments, NewtonPlan, Penalty
from common.training_plans.training import pair
from common.training_plans.validation import Validated

_LEAST_SCORE: Final = -500.0
"""Scores this far below the highest count as no lower: the exponential is still a number, and so is one over it."""
_ROWS: Final = 1024
"""Samples that are compared with all others at a time."""


class CoxArguments(NewtonArguments):
    """Arguments of Cox's model; it has no intercept, as the baseline hazard takes its place."""

    fit_intercept: Literal[False] = False
    ties: Literal["efron", "breslow"] = "efron"
    """How samples with the same event time are counted."""
    alpha: Penalty = 0.0
    """Weight of a penalty alpha |w|^2 / 2."""


class FedCoxPH(NewtonPlan[CoxArguments]):
    """Cox's proportional hazards model, stratified by node: exactly as on pooled data with the node as stratum, in some 4 to 8 rounds.

    The partial likelihoods of strata multiply (Cox, JRSS B 1972, eq. 12; Kalbfleisch and Prentice, The Statistical Analysis of Failure
    Time Data, 2002, section 4.4). A target is a pair of time and event, 1 for an event and 0 for a censored sample; both columns in `TabularDataset(..., ["time", "event"])`.
    Ties are counted as Efron says (JASA 1977, eq. 3.9) or as Breslow does (Biometrics 1974, eq. 6). With R(t) the samples of a node that are at risk at an
    event time, D(t) those with an event then, d of them, and r = exp(x w): log L = sum over t of [ sum over D of x w - sum over l = 0..d-1 of
    log(sum over R of r - (l/d) sum over D of r) ]; Breslow's has 0 in place of l/d. Baseline hazards stay at the nodes and are not estimated.
    """

    arguments_class = CoxArguments

    def penalty(self) -> float:
        """Return alpha."""
        return self.arguments.alpha

    def pieces(self, loader: Loader) -> Iterable[tuple[Any, Any]]:
        """Yield the whole training part at once, since each sample is compared with those at risk beside it."""
        batches = [pair(self, batch) for batch in loader]
        if batches:
            yield torch.cat([data for data, _ in batches]), torch.cat([target for _, target in batches])

    def derivatives(self, data: Tensor, target: Any, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return them for the whole training part of a node; see `NewtonPlan.derivatives`."""
        times, events = self._outcomes(target)
        order = torch.argsort(times, descending=True, stable=True)
        data, times, events = data[order], times[order], events[order]
        scores = data @ coefficients
        top = scores.max()
        # scaled by exp(-top), which cancels everywhere but in the logarithm; a step far too long must still give numbers, to be halved
        risks = torch.exp((scores - top).clamp(min=_LEAST_SCORE))
        _, group, size = torch.unique_consecutive(times, return_inverse=True, return_counts=True)
        ends = size.cumsum(0) - 1

        died = group[events]
        deaths = torch.bincount(died, minlength=len(size))
        share = torch.zeros(len(died), dtype=torch.float64)
        if self.arguments.ties == "efron":
            rank = torch.arange(len(died), dtype=torch.float64) - (deaths.cumsum(0) - deaths)[died]
            share = rank / deaths[died]

        weighted = risks[:, None] * data
        tied_risks = torch.zeros(len(size), dtype=torch.float64).index_add(0, died, risks[events])
        tied_weighted = torch.zeros(len(size), data.shape[1], dtype=torch.float64).index_add(
            0, died, weighted[events]
        )
        total = risks.cumsum(0)[ends][died] - share * tied_risks[died]
        means = (weighted.cumsum(0)[ends][died] - share[:, None] * tied_weighted[died]) / total[:, None]

        # how often each sample counts in the second moments of all risk sets that it belongs to
        hazard = torch.zeros(len(size), dtype=torch.float64).index_add(0, died, 1 / total)
        tied_hazard = torch.zeros(len(size), dtype=torch.float64).index_add(0, died, share / total)
        counts = hazard.flip(0).cumsum(0).flip(0)[group] - events * tied_hazard[group]

        value = scores[events].sum() - (total.log() + top).sum()
        gradient = data[events].sum(0) - means.sum(0)
        information = weighted.T @ (counts[:, None] * data) - means.T @ means
        return value, gradient, information

    def validate(self, loader: Loader) -> Validated:
        """Return `loss`, the mean negative log partial likelihood, and `C_INDEX` of a whole part of a data set; or what `testing_step` gives.

        Raises:
            PlanFailedError: If a line of the plan raises; says which.
            PlanContractError: If a method returns the wrong thing.
        """
        if hasattr(self, "testing_step"):
            return super().validate(loader)
        metrics: dict[str, float | None] = {}
        for data, target in self.pieces(loader):
            times, events = self._outcomes(target)
            metrics["loss"] = float(self.training_step(data, target))
            metrics["C_INDEX"] = concordance(self.predict(data), times, events)
        return Validated(metrics)

    def _outcomes(self, target: Any) -> tuple[Tensor, Tensor]:
        """Return the times, float64, and whether each ended in an event."""
        if not isinstance(target, Tensor) or target.ndim != 2 or target.shape[1] != 2:
            self.breaks_contract(
                "training_data", "must give a time and an event as the target of each sample"
            )
        times, events = target[:, 0].to(torch.float64), target[:, 1]
        if not bool(((events == 0) | (events == 1)).all()) or not bool((times >= 0).all()):
            self.breaks_contract(
                "training_data", "must give times that are not negative and events that are 0 or 1"
            )
        return times, events == 1


def concordance(scores: Tensor, times: Tensor, events: Tensor) -> float | None:
    """Return Harrell's C (JAMA 1982): the share of pairs in order of risk, among those of which it is known who had the event first.

    A tie of scores counts one half. A sample with an event comes before one that is censored at the same time. None if there is no such pair.
    """
    right, pairs = 0.0, 0
    for first in range(0, len(scores), _ROWS):
        rows = slice(first, first + _ROWS)
        time, event, score = times[rows, None], events[rows, None], scores[rows, None]
        known = event & ((time < times) | ((time == times) & ~events))
        right += float((known & (score > scores)).sum()) + float((known & (score == scores)).sum()) / 2
        pairs += int(known.sum())
    return right / pairs if pairs else None
