"""Write the page of `docs/reference` that lists every metric, from the code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Final, NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from common import metrics
from node import figures as node_figures
from researcher.monitoring.families import FAMILIES, NODE_FAMILIES

_HEAD: Final = """\
# Metrics

Every metric that Warren shows to Prometheus. This page is generated from the code: `make docs`. A node shows its own with
`metrics_port` in `policy.toml`; a researcher shows its own, those of its experiments and what the nodes tell, with
`WARREN_METRICS_PORT`. Beside them stand the usual `process_...` of the process, and on the broker those of RabbitMQ's own exporter.
`_total` ends the names of counters; a histogram has `_bucket`, `_sum` and `_count`, a summary `_sum` and `_count`.

The number of series is bounded: by node, of which the roster has so many; by experiment, of which the newest 20 are kept (16 at a
node), each with at most 20 validation metrics; by error code; and by words from fixed lists.
"""


class Row(NamedTuple):
    """One metric."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def groups() -> dict[str, list[Row]]:
    """Return every metric, in the order of their names, by who shows it."""
    families = {
        "Of experiments, by a researcher": FAMILIES,
        "Of nodes, by a researcher": NODE_FAMILIES,
    }
    found = {
        "Of every party": list(_declared(metrics)),
        "Of a node, by itself": list(_declared(node_figures)),
    }
    for title, some in families.items():
        found[title] = [
            Row(_shown(one.name, kind), kind, one.labels, one.text)
            for one in some
            for kind in (one.kind(one.name, one.text).type,)
        ]
    return {title: sorted(rows) for title, rows in found.items()}


def metrics_page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for title, rows in groups().items():
        parts.append(f"\n## {title}\n\n")
        parts.append(_line(("name", "type", "labels", "meaning")) + _line(["---"] * 4))
        parts += [
            _line((f"`{row.name}`", row.kind, ", ".join(f"`{label}`" for label in row.labels), row.text))
            for row in rows
        ]
    return "".join(parts)


def _declared(module: ModuleType) -> Iterator[Row]:
    for value in vars(module).values():
        if isinstance(value, MetricWrapperBase):
            (family,) = value.describe()
            labels = tuple(value._labelnames)  # noqa: SLF001 - the client has no other word for them
            yield Row(_shown(family.name, family.type), family.type, labels, family.documentation)


def _shown(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
