"""Choose the nodes of a round, and say when a round may close."""

from researcher.strategies.asynchronous import AsyncStrategy
from researcher.strategies.base import Ask, Close, Decision, Fail, RoundView, SamplingStrategy, Strategy, Wait
from researcher.strategies.config import AnyStrategy, strategy_config, strategy_of
from researcher.strategies.default import DefaultStrategy
from researcher.strategies.minimum import MinimumStrategy
from researcher.strategies.overselect import OverSelectStrategy
from researcher.strategies.sampling import (
    AllNodes,
    RandomSampling,
    RoundRobinSampling,
    Sample,
    Sampling,
    WeightedSampling,
)

__all__ = [
    "AllNodes",
    "AnyStrategy",
    "Ask",
    "AsyncStrategy",
    "Close",
    "Decision",
    "DefaultStrategy",
    "Fail",
    "MinimumStrategy",
    "OverSelectStrategy",
    "RandomSampling",
    "RoundRobinSampling",
    "RoundView",
    "Sample",
    "Sampling",
    "SamplingStrategy",
    "Strategy",
    "Wait",
    "WeightedSampling",
    "strategy_config",
    "strategy_of",
]
