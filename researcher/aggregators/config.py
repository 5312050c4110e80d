"""Write aggregators as plain settings and read them back, for ledgers and experiment files."""

from __future__ import annotations

from typing import Any, Final

from common.registry import Registry
from researcher.aggregators.base import Aggregator
from researcher.aggregators.fedavg import FedAverage
from researcher.aggregators.feddyn import FedDyn
from researcher.aggregators.fednova import FedNova
from researcher.aggregators.robust import (
    Bulyan,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    NormClipping,
    TrimmedMean,
)
from researcher.aggregators.scaffold import Scaffold
from researcher.aggregators.sums import NewtonStep, SumStatistics
from researcher.aggregators.trees import TreeEnsemble

_REGISTRY: Registry[Aggregator] = Registry(
    "aggregator",
    (
        *(FedAverage, Scaffold, FedNova, FedDyn),
        *(CoordinateMedian, TrimmedMean, Krum, Bulyan, GeometricMedian, NormClipping),
        *(SumStatistics, NewtonStep, TreeEnsemble),
    ),
)

PLAN_BOUND: Final = frozenset({SumStatistics.__name__, NewtonStep.__name__, TreeEnsemble.__name__})
"""Aggregators of what plans made for them send; the models of other plans mean nothing to them."""


def aggregator_config(aggregator: Aggregator) -> dict[str, Any]:
    """Return the name and settings of an aggregator."""
    return _REGISTRY.config(aggregator)


def aggregator_of(config: dict[str, Any]) -> Aggregator:
    """Return the aggregator that a configuration describes.

    Raises:
        InvalidSettingsError: If there is no such aggregator or a setting is wrong.
    """
    return _REGISTRY.build(config)
