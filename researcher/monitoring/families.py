"""Name the metrics that a researcher shows of its experiments and of the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)

Value = float | tuple[int, float]
"""A number; for a summary, how many there were and their sum."""

Series = Mapping[str, Iterable[tuple[tuple[str, ...], Value]]]
"""Values of labels and a value, for each series of a metric, by its name."""


class Family(NamedTuple):
    """What a metric is called, what it means and how its series differ."""

    kind: type[GaugeMetricFamily | CounterMetricFamily | SummaryMetricFamily]
    name: str
    text: str
    labels: tuple[str, ...]


_GAUGE, _COUNTER, _SUMMARY = GaugeMetricFamily, CounterMetricFamily, SummaryMetricFamily
_EXPERIMENT, _NODE = ("experiment",), ("node",)
_BOTH = (*_EXPERIMENT, *_NODE)

FAMILIES: Final = (
    Family(
        _GAUGE,
        "warren_experiment_info",
        "1; the labels say what an experiment is called",
        (*_EXPERIMENT, "name"),
    ),
    Family(
        _GAUGE, "warren_experiment_running", "Whether rounds of the experiment are being run", _EXPERIMENT
    ),
    Family(_GAUGE, "warren_experiment_round", "Number of the last round that was closed", _EXPERIMENT),
    Family(_GAUGE, "warren_experiment_last_round", "Number of the round that the run ends with", _EXPERIMENT),
    Family(
        _GAUGE,
        "warren_round_opened_timestamp_seconds",
        "Unix time at which the round that is open was opened; 0 if none is",
        _EXPERIMENT,
    ),
    Family(
        _COUNTER, "warren_rounds", "Rounds that ended: closed, failed or cancelled", (*_EXPERIMENT, "outcome")
    ),
    Family(_SUMMARY, "warren_round_duration_seconds", "From opening to closing a round", _EXPERIMENT),
    Family(
        _SUMMARY,
        "warren_round_step_duration_seconds",
        "How long the steps of closed rounds took: broadcast, collect, aggregate, save",
        (*_EXPERIMENT, "step"),
    ),
    Family(
        _GAUGE,
        "warren_experiment_loss",
        "Mean of the last training losses of the last round, weighted by samples",
        _EXPERIMENT,
    ),
    Family(_GAUGE, "warren_node_loss", "Last training loss of a node in its last update", _BOTH),
    Family(
        _GAUGE,
        "warren_node_metric",
        "Last metric of a node, of the global model that it received or of the local one that it trained",
        (*_BOTH, "on", "metric"),
    ),
    Family(
        _COUNTER,
        "warren_updates",
        "Answers of nodes that were accounted for: accepted, late, refused or quarantined",
        (*_BOTH, "outcome"),
    ),
    Family(_COUNTER, "warren_update_bytes", "Bytes of the updates that were accepted", _BOTH),
    Family(
        _COUNTER,
        "warren_update_samples",
        "Samples that accepted updates were trained on, counted each time",
        _BOTH,
    ),
    Family(_GAUGE, "warren_model_bytes", "Bytes of the last global model as it goes to nodes", _EXPERIMENT),
    Family(
        _COUNTER,
        "warren_tasks_lost",
        "Tasks that a node could not do, and whether it was asked again",
        (*_BOTH, "retried"),
    ),
    Family(
        _COUNTER,
        "warren_node_training_seconds",
        "How long accepted tasks trained at a node, on its processors (cpu) or on a GPU (gpu)",
        (*_NODE, "device"),
    ),
    Family(
        _SUMMARY,
        "warren_node_task_step_duration_seconds",
        "How long the steps of accepted tasks took at a node: waited, loaded, trained, validated, saved",
        (*_NODE, "step"),
    ),
)
"""What is known of experiments."""

NODE_FAMILIES: Final = (
    Family(
        _GAUGE,
        "warren_node_info",
        "1; the labels say which versions a node runs",
        (*_NODE, "version", "python"),
    ),
    Family(_GAUGE, "warren_node_up", "Whether a node is online", _NODE),
    Family(_GAUGE, "warren_node_last_seen_timestamp_seconds", "Unix time at which a node last spoke", _NODE),
    Family(_GAUGE, "warren_node_start_time_seconds", "Unix time at which its agent started", _NODE),
    Family(_GAUGE, "warren_node_datasets", "Data sets that it has", _NODE),
    Family(_GAUGE, "warren_node_open_tasks", "Its tasks that have not ended, by phase", (*_NODE, "phase")),
    Family(
        _COUNTER,
        "warren_node_tasks",
        "Its tasks that ended, for all researchers, by how",
        (*_NODE, "outcome"),
    ),
    Family(
        _COUNTER,
        "warren_node_task_retries",
        "Its tasks that were begun once more after its agent died",
        _NODE,
    ),
    Family(
        _COUNTER,
        "warren_node_message_bytes",
        "Bytes of messages that it sent and received, by lane",
        (*_NODE, "lane", "direction"),
    ),
    Family(
        _COUNTER,
        "warren_node_refused_messages",
        "Messages that it, or the broker for it, did not accept",
        _NODE,
    ),
    Family(_COUNTER, "warren_node_broker_connections", "Times that it connected to the broker", _NODE),
    Family(_COUNTER, "warren_node_cpu_seconds", "Processor time of its agent", _NODE),
    Family(_GAUGE, "warren_node_resident_memory_bytes", "Memory of its agent", _NODE),
    Family(_GAUGE, "warren_node_workers", "Its worker processes", _NODE),
    Family(_COUNTER, "warren_node_worker_cpu_seconds", "Processor time of its workers", _NODE),
    Family(_GAUGE, "warren_node_worker_resident_memory_bytes", "Memory of its workers", _NODE),
    Family(_GAUGE, "warren_node_disk_free_bytes", "Free space on the disk of its home", _NODE),
    Family(_GAUGE, "warren_node_disk_floor_bytes", "Free space below which it stops all tasks", _NODE),
    Family(
        _GAUGE,
        "warren_node_certificate_expires_timestamp_seconds",
        "Unix time at which its certificate expires",
        _NODE,
    ),
)
"""What nodes tell of themselves, and what the researcher sees of them."""


def shown(families: Iterable[Family], series: Series) -> Iterator[Metric]:
    """Yield the families, as Prometheus' client wants them, with their series."""
    for kind, name, text, labels in families:
        family = kind(name, text, labels=labels)
        for values, value in series.get(name, ()):
            numbers = value if isinstance(value, tuple) else (float(value),)
            family.add_metric(values, *numbers)
        yield family
