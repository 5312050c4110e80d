"""Choose the nodes of a round, and say when a round may close."""

from researcher.strategies.base import Close, Decision, Fail, RoundView, Strategy, Wait
from researcher.strategies.config import strategy_config, strategy_of
from researcher.strategies.default import DefaultStrategy
from researcher.strategies.minimum import MinimumStrategy

__all__ = [
    "Close",
    "Decision",
    "DefaultStrategy",
    "Fail",
    "MinimumStrategy",
    "RoundView",
    "Strategy",
    "Wait",
    "strategy_config",
    "strategy_of",
]
