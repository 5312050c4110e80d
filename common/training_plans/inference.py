"""Tell what a fitted model means: standard errors, confidence intervals and tests, out of the summed information matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_STEPS: Final = 200
"""Most steps of the continued fraction and of the bisection; each gains about a bit or more."""


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One coefficient.

    Attributes:
        name: Its column.
        estimate: Its value.
        std_error: Standard error of that.
        low: Lower end of the confidence interval.
        high: Upper end.
        statistic: Estimate over standard error.
        p_value: Two-sided, of the hypothesis that the coefficient is 0; none of a penalised model, whose estimates are biased, and where no
            sample is left over to estimate the variance.
        ratio: Odds ratio or hazard ratio, the exponential of the estimate; none of linear models.
    """

    name: str
    estimate: float
    std_error: float
    low: float
    high: float
    statistic: float
    p_value: float | None
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A fitted model.

    Attributes:
        coefficients: One for each column, then the intercept, if there is one.
        samples: Training samples of all nodes.
        log_likelihood: Without the penalty, at what the last step started from; of least squares minus half the sum of squares.
        last_step: Length of the last step in standard errors; far below 1 once the fit has converged.
        level: Of the confidence intervals.
        residual_variance: Of least squares, unbiased; none of other models.
    """

    coefficients: tuple[Coefficient, ...]
    samples: int
    log_likelihood: float
    last_step: float
    level: float
    residual_variance: float | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each coefficient, ready for a table or for JSON."""
        return [asdict(one) for one in self.coefficients]

    def __getitem__(self, name: str) -> Coefficient:
        return {one.name: one for one in self.coefficients}[name]

    def __str__(self) -> str:
        width = max(len(one.name) for one in self.coefficients)
        interval = f"{self.level:.0%} interval"
        lines = [f"{'':{width}} {'estimate':>11} {'std error':>11} {interval:>25} {'p':>9} {'ratio':>9}"]
        lines += [
            f"{one.name:{width}} {one.estimate:11.5g} {one.std_error:11.5g} {one.low:12.5g} {one.high:12.5g}"
            f" {'' if one.p_value is None else format(one.p_value, '.3g'):>9}"
            f" {'' if one.ratio is None else format(one.ratio, '.4g'):>9}"
            for one in self.coefficients
        ]
        return "\n".join([*lines, f"{self.samples} samples, last step {self.last_step:.2g} standard errors"])


def summarised(
    names: Sequence[str],
    tensors: Mapping[str, Any],
    *,
    level: float,
    least_squares: bool,
) -> Summary:
    """Return what the tensors of a Newton model mean, after at least one round.

    The covariance is (I + P)^-1 I (I + P)^-1 for information I and penalties P: without penalties the inverse of the information, and
    with them the variance of a biased estimate (van Wieringen, Lecture notes on ridge regression, 2015, section 1.4). The tests are Wald's,
    on the normal distribution; those of least squares are on Student's with samples minus coefficients degrees of freedom.

    Args:
        names: Of the coefficients.
        tensors: The model, as `common.training_plans.newton` keeps it.
        level: Of the confidence intervals.
        least_squares: Whether the information is to be divided by the residual variance, and exponentials of the estimates mean nothing.
    """
    estimates, penalty = tensors["coefficients"], tensors["penalty"]
    information, samples = tensors["sum.information"], int(tensors["sum.samples"])
    inverse = np.linalg.inv(information + np.diag(penalty))
    covariance = inverse @ information @ inverse
    step = estimates - tensors["evaluated"]
    freedom = math.inf
    variance = None
    if least_squares:
        freedom = float(samples - len(names))
        # the log-likelihood is quadratic: its value after the step is known without another round
        gained = tensors["sum.gradient"] @ step - step @ information @ step / 2
        variance = max(0.0, -2 * float(tensors["sum.log_likelihood"] + gained)) / max(freedom, 1.0)
        covariance = covariance * variance
    errors = np.sqrt(np.diag(covariance))
    half = t_quantile(level, freedom) if freedom > 0 else math.inf
    tested = freedom > 0 and not penalty.any()
    rows = []
    for name, estimate, error in zip(names, estimates.tolist(), errors.tolist(), strict=True):
        statistic = estimate / error if error else math.inf
        rows.append(
            Coefficient(
                name=name,
                estimate=estimate,
                std_error=error,
                low=estimate - half * error,
                high=estimate + half * error,
                statistic=statistic,
                p_value=t_tails(abs(statistic), freedom) if tested else None,
                ratio=math.exp(min(estimate, 700.0)) if not least_squares else None,
            )
        )
    scale = variance or 1.0
    return Summary(
        coefficients=tuple(rows),
        samples=samples,
        log_likelihood=float(tensors["sum.log_likelihood"]),
        last_step=math.sqrt(max(0.0, float(step @ (information + np.diag(penalty)) @ step) / scale)),
        level=level,
        residual_variance=variance,
    )


def t_tails(value: float, freedom: float) -> float:
    """Return the probability that Student's t lies farther from 0 than `value`; infinite degrees of freedom mean the normal distribution."""
    if math.isinf(freedom):
        return math.erfc(value / math.sqrt(2))
    if math.isinf(value):
        return 0.0
    return incomplete_beta(freedom / (freedom + value * value), freedom / 2, 0.5)


def t_quantile(level: float, freedom: float) -> float:
    """Return how far from 0 Student's t lies with the probability 1 - `level` or less."""
    if math.isinf(freedom):
        return NormalDist().inv_cdf((1 + level) / 2)
    low, high = 0.0, 1.0
    while t_tails(high, freedom) > 1 - level:
        high *= 2
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tails(middle, freedom) > 1 - level else (low, middle)
    return high


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function, by Lentz's continued fraction (Press et al., Numerical Recipes, 2007, section 6.4)."""
    if x <= 0 or x >= 1:
        return float(x > 0)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    total = d
    for m in range(1, _STEPS):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + factor * d) or tiny)
            c = (1 + factor / c) or tiny
            total *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * total / a
