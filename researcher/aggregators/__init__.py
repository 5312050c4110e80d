"""Make one model out of the updates of a round."""

from researcher.aggregators.base import Aggregator, Contribution
from researcher.aggregators.config import aggregator_config, aggregator_of
from researcher.aggregators.fedavg import FedAverage

__all__ = ["Aggregator", "Contribution", "FedAverage", "aggregator_config", "aggregator_of"]
