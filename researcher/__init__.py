"""Run experiments: choose nodes, send plans, collect updates, aggregate models.

Names are imported when they are first used, so that `warren-researcher --help` needs neither numpy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from researcher.aggregators import Aggregator, FedAverage
    from researcher.experiment import Experiment
    from researcher.federation import Federation
    from researcher.history import History
    from researcher.monitoring import Observer, TerminalView
    from researcher.strategies import (
        AllNodes,
        AsyncStrategy,
        DefaultStrategy,
        MinimumStrategy,
        OverSelectStrategy,
        RandomSampling,
        RoundRobinSampling,
        Strategy,
        WeightedSampling,
    )

_HOMES: Final = {
    "Aggregator": "researcher.aggregators",
    "AllNodes": "researcher.strategies",
    "AsyncStrategy": "researcher.strategies",
    "DefaultStrategy": "researcher.strategies",
    "Experiment": "researcher.experiment",
    "FedAverage": "researcher.aggregators",
    "Federation": "researcher.federation",
    "History": "researcher.history",
    "MinimumStrategy": "researcher.strategies",
    "Observer": "researcher.monitoring",
    "OverSelectStrategy": "researcher.strategies",
    "RandomSampling": "researcher.strategies",
    "RoundRobinSampling": "researcher.strategies",
    "Strategy": "researcher.strategies",
    "TerminalView": "researcher.monitoring",
    "WeightedSampling": "researcher.strategies",
}

__all__ = [
    "Aggregator",
    "AllNodes",
    "AsyncStrategy",
    "DefaultStrategy",
    "Experiment",
    "FedAverage",
    "Federation",
    "History",
    "MinimumStrategy",
    "Observer",
    "OverSelectStrategy",
    "RandomSampling",
    "RoundRobinSampling",
    "Strategy",
    "TerminalView",
    "WeightedSampling",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
