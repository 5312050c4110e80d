"""Run experiments: choose nodes, send plans, collect updates, aggregate models.

Names are imported when they are first used, so that `warren-researcher --help` needs neither numpy nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from researcher.aggregators import (
        Aggregator,
        Bulyan,
        CoordinateMedian,
        FedAverage,
        FedDyn,
        FedNova,
        GeometricMedian,
        Krum,
        NewtonStep,
        NormClipping,
        Scaffold,
        SumStatistics,
        TreeEnsemble,
        TrimmedMean,
    )
    from researcher.experiment import Experiment
    from researcher.federation import Federation
    from researcher.history import History
    from researcher.monitoring import Observer, TerminalView
    from researcher.stopping import EarlyStopping
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
    "Bulyan": "researcher.aggregators",
    "CoordinateMedian": "researcher.aggregators",
    "DefaultStrategy": "researcher.strategies",
    "EarlyStopping": "researcher.stopping",
    "Experiment": "researcher.experiment",
    "FedAverage": "researcher.aggregators",
    "FedDyn": "researcher.aggregators",
    "FedNova": "researcher.aggregators",
    "Federation": "researcher.federation",
    "GeometricMedian": "researcher.aggregators",
    "History": "researcher.history",
    "Krum": "researcher.aggregators",
    "MinimumStrategy": "researcher.strategies",
    "NewtonStep": "researcher.aggregators",
    "NormClipping": "researcher.aggregators",
    "Observer": "researcher.monitoring",
    "OverSelectStrategy": "researcher.strategies",
    "RandomSampling": "researcher.strategies",
    "RoundRobinSampling": "researcher.strategies",
    "Scaffold": "researcher.aggregators",
    "Strategy": "researcher.strategies",
    "SumStatistics": "researcher.aggregators",
    "TerminalView": "researcher.monitoring",
    "TreeEnsemble": "researcher.aggregators",
    "TrimmedMean": "researcher.aggregators",
    "WeightedSampling": "researcher.strategies",
}

__all__ = [
    "Aggregator",
    "AllNodes",
    "AsyncStrategy",
    "Bulyan",
    "CoordinateMedian",
    "DefaultStrategy",
    "EarlyStopping",
    "Experiment",
    "FedAverage",
    "FedDyn",
    "FedNova",
    "Federation",
    "GeometricMedian",
    "History",
    "Krum",
    "MinimumStrategy",
    "NewtonStep",
    "NormClipping",
    "Observer",
    "OverSelectStrategy",
    "RandomSampling",
    "RoundRobinSampling",
    "Scaffold",
    "Strategy",
    "SumStatistics",
    "TerminalView",
    "TreeEnsemble",
    "TrimmedMean",
    "WeightedSampling",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
