"""Make one model out of the updates of a round."""

from researcher.aggregators.base import Aggregator, Contribution
from researcher.aggregators.config import PLAN_BOUND, aggregator_config, aggregator_of
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
from researcher.aggregators.stateful import Recall, StatefulAggregator
from researcher.aggregators.sums import NewtonStep, SumStatistics
from researcher.aggregators.trees import TreeEnsemble

__all__ = [
    "PLAN_BOUND",
    "Aggregator",
    "Bulyan",
    "Contribution",
    "CoordinateMedian",
    "FedAverage",
    "FedDyn",
    "FedNova",
    "GeometricMedian",
    "Krum",
    "NewtonStep",
    "NormClipping",
    "Recall",
    "Scaffold",
    "StatefulAggregator",
    "SumStatistics",
    "TreeEnsemble",
    "TrimmedMean",
    "aggregator_config",
    "aggregator_of",
]
