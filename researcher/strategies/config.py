"""Write strategies as plain settings and read them back, for ledgers and experiment files."""

from __future__ import annotations

from typing import Any

from common.registry import Registry
from researcher.strategies.asynchronous import AsyncStrategy
from researcher.strategies.base import SamplingStrategy, Strategy
from researcher.strategies.default import DefaultStrategy
from researcher.strategies.minimum import MinimumStrategy
from researcher.strategies.overselect import OverSelectStrategy
from researcher.strategies.sampling import (
    AllNodes,
    RandomSampling,
    RoundRobinSampling,
    Sampling,
    WeightedSampling,
)

AnyStrategy = Strategy | AsyncStrategy

_STRATEGIES: Registry[AnyStrategy] = Registry(
    "strategy", (DefaultStrategy, MinimumStrategy, OverSelectStrategy, AsyncStrategy)
)
_SAMPLINGS: Registry[Sampling] = Registry(
    "sampling", (AllNodes, RandomSampling, RoundRobinSampling, WeightedSampling)
)


def strategy_config(strategy: AnyStrategy) -> dict[str, Any]:
    """Return the name and settings of a strategy, those of its sampling among them."""
    config = _STRATEGIES.config(strategy)
    if isinstance(strategy, SamplingStrategy):
        config["sampling"] = _SAMPLINGS.config(strategy.sampling)
    return config


def strategy_of(config: dict[str, Any]) -> AnyStrategy:
    """Return the strategy that a configuration describes.

    Raises:
        InvalidSettingsError: If there is no such strategy or a setting is wrong.
    """
    sampling = config.get("sampling")
    built = {"sampling": _SAMPLINGS.build(sampling)} if isinstance(sampling, dict) else {}
    return _STRATEGIES.build(config | built)
