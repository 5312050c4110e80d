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
    from researcher.strategies import DefaultStrategy, MinimumStrategy, Strategy

_HOMES: Final = {
    "Aggregator": "researcher.aggregators",
    "DefaultStrategy": "researcher.strategies",
    "Experiment": "researcher.experiment",
    "FedAverage": "researcher.aggregators",
    "Federation": "researcher.federation",
    "History": "researcher.history",
    "MinimumStrategy": "researcher.strategies",
    "Observer": "researcher.monitoring",
    "Strategy": "researcher.strategies",
    "TerminalView": "researcher.monitoring",
}

__all__ = [
    "Aggregator",
    "DefaultStrategy",
    "Experiment",
    "FedAverage",
    "Federation",
    "History",
    "MinimumStrategy",
    "Observer",
    "Strategy",
    "TerminalView",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
