"""Write strategies as plain settings and read them back, for ledgers and experiment files."""

from __future__ import annotations

from typing import Any

from researcher.registry import Registry
from researcher.strategies.base import Strategy
from researcher.strategies.default import DefaultStrategy
from researcher.strategies.minimum import MinimumStrategy

_REGISTRY: Registry[Strategy] = Registry("strategy", (DefaultStrategy, MinimumStrategy))


def strategy_config(strategy: Strategy) -> dict[str, Any]:
    """Return the name and settings of a strategy."""
    return _REGISTRY.config(strategy)


def strategy_of(config: dict[str, Any]) -> Strategy:
    """Return the strategy that a configuration describes.

    Raises:
        InvalidSettingsError: If there is no such strategy or a setting is wrong.
    """
    return _REGISTRY.build(config)
