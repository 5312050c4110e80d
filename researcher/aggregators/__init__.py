"""Make one model out of the updates of a round."""

from researcher.aggregators.base import Aggregator, Contribution
from researcher.aggregators.config import aggregator_config, aggregator_of
from researcher.aggregators.fedavg import FedAverage
from researcher.aggregators.robust import (
    Bulyan,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    NormClipping,
    TrimmedMean,
)

__all__ = [
    "Aggregator",
    "Bulyan",
    "Contribution",
    "CoordinateMedian",
    "FedAverage",
    "GeometricMedian",
    "Krum",
    "NormClipping",
    "TrimmedMean",
    "aggregator_config",
    "aggregator_of",
]
