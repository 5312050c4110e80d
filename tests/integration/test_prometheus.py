"""A real Prometheus, configured as it is deployed, looks on while real hospitals train, and agrees with the ledger."""

import json
import math
import re
import subprocess
import urllib.error

import pytest
from prometheus_client import Counter

from common.metrics import REGISTRY
from deploy.metrics_page import groups
from tests.support.prometheus import DEADLINE_S, DEPLOYED, ROOT, program, read
from tests.support.watched import LOGIN, NAMES
from tests.support.watched import watched as an_experiment_watched

ROUNDS = 3
DASHBOARDS = {path.stem: path for path in (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")}


def forget_other_tests():
    """Begin as a process that has done nothing: the researcher of this module is this process, which has run other tests."""
    for counter in (one for one in REGISTRY._collector_to_names if isinstance(one, Counter)):
        for child in counter._metrics.values() if counter._labelnames else (counter,):
            child.reset()


@pytest.fixture(scope="module")
def watched(tmp_path_factory, forked_for_all):
    program("prometheus")
    forget_other_tests()
    with an_experiment_watched(tmp_path_factory.mktemp("watched"), rounds=ROUNDS) as found:
        yield found


def test_prometheus_and_the_ledger_agree_on_rounds_losses_and_bytes(watched):
    asked, history = watched.prometheus, watched.history
    last, validation = history.training[-1], history[-1]

    assert {"closed": ROUNDS + 1, "failed": 0, "cancelled": 0} == asked.by("outcome", "warren_rounds_total")
    assert [ROUNDS] == [value for _, value in asked.query("warren_experiment_round")]
    assert {node: last.nodes[node].loss for node in NAMES} == asked.by("node", "warren_node_loss")
    weights = {node: one.samples_seen for node, one in last.nodes.items()}
    mean = sum(last.nodes[node].loss * weights[node] for node in NAMES) / sum(weights.values())
    assert [pytest.approx(mean, rel=1e-12)] == [value for _, value in asked.query("warren_experiment_loss")]
    for series, total in {
        "warren_update_bytes_total": lambda one: one.update_bytes,
        "warren_update_samples_total": lambda one: one.samples_seen,
    }.items():
        expected = {node: sum(total(record.nodes[node]) for record in history) for node in NAMES}
        assert expected == asked.by("node", series)
        assert all(expected.values())
    told = {node: one.metrics["global_accuracy"] for node, one in validation.nodes.items()}
    assert told == asked.by("node", 'warren_node_metric{on="global", metric="accuracy"}')
    assert last.sent.size_bytes == asked.query("warren_model_bytes")[0][1]


def test_what_nodes_tell_by_telemetry_is_what_their_own_exporters_show(watched):
    asked = watched.prometheus
    hospital = {f"127.0.0.1:{port}": node for node, port in watched.ports.items()}
    own = asked.by("instance", 'warren_tasks_total{job="warren-node", outcome="trained"}')

    assert dict.fromkeys(NAMES, ROUNDS + 1) == asked.by("node", 'warren_node_tasks_total{outcome="trained"}')
    assert dict.fromkeys(NAMES, ROUNDS + 1) == {hospital[one]: value for one, value in own.items()}
    assert dict.fromkeys(NAMES, 1) == asked.by("node", "warren_node_up")


def test_only_who_gives_the_login_reads_the_researchers_metrics(watched):
    url = f"http://127.0.0.1:{watched.port}/metrics"
    with pytest.raises(urllib.error.HTTPError) as refused:
        read(url)

    assert 401 == refused.value.code
    refused.value.close()


def test_every_metric_that_is_shown_is_in_the_reference_with_its_labels(watched):
    page = {row.name: set(row.labels) for rows in groups().values() for row in rows}
    series = watched.prometheus.call("series", **{"match[]": '{__name__=~"warren_.*"}'})
    unknown = []
    for labels in series:
        name = labels["__name__"]
        known = page.get(name, page.get(re.sub(r"_(bucket|sum|count)$", "", name)))
        extra = labels.keys() - {"__name__", "instance", "job", "le"}
        if known is None or not extra <= known:
            unknown.append((name, extra))

    assert len(series) > 100
    assert [] == unknown


def test_names_and_units_keep_to_the_conventions(watched):
    for url in (
        f"http://127.0.0.1:{watched.port}/metrics",
        f"http://127.0.0.1:{next(iter(watched.ports.values()))}/metrics",
    ):
        text = read(url, login=LOGIN)
        lint = subprocess.run(
            [program("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=DEADLINE_S
        )
        assert (0, b"") == (lint.returncode, lint.stderr)


def expressions(dashboard):
    """Yield the title of each panel with the queries in it, its variables filled in."""
    variables = {one["name"]: one["allValue"] for one in dashboard["templating"]["list"]}
    variables["__rate_interval"] = "1m"
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], re.sub(r"\$(\w+)", lambda found: variables[found[1]], target["expr"])


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_every_query_of_a_dashboard_finds_what_is_exported(watched, name):
    dashboard = json.loads(DASHBOARDS[name].read_text())
    empty = []
    for title, expression in expressions(dashboard):
        found = watched.prometheus.query(expression)
        if not found or not any(math.isfinite(value) for _, value in found):
            empty.append(f"{title}: {expression}")
    for variable in dashboard["templating"]["list"]:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
        assert watched.prometheus.by(label, metric)

    assert [] == empty


def test_what_a_legend_names_is_a_label_of_the_query(watched):
    missing = []
    for path in DASHBOARDS.values():
        dashboard = json.loads(path.read_text())
        filled = [expression for _, expression in expressions(dashboard)]
        legends = [target["legendFormat"] for panel in dashboard["panels"] for target in panel["targets"]]
        for expression, legend in zip(filled, legends, strict=True):
            for labels, _ in watched.prometheus.query(expression)[:1]:
                missing += [
                    f"{legend}: {expression}"
                    for name in re.findall(r"{{(\w+)}}", legend)
                    if name not in labels
                ]

    assert [] == missing


def test_no_alert_fires_in_a_federation_that_is_well(watched):
    full = {"WarrenDiskLow"}  # of this machine, perhaps
    fires = {
        one["labels"]["alertname"]
        for one in watched.prometheus.call("alerts")["alerts"]
        if one["state"] == "firing"
    }

    assert set() == fires - full


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "--syntax-only", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=["configuration", "rules", "tests of the rules"],
)
def test_prometheus_own_tool_accepts(arguments):
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=DEPLOYED, capture_output=True, text=True, timeout=DEADLINE_S
    )

    assert 0 == done.returncode, done.stdout + done.stderr


def test_every_alert_is_tried():
    alerts = set(re.findall(r"- alert: (\w+)", (DEPLOYED / "alerts.yml").read_text()))
    fires = (DEPLOYED / "alerts_test.yml").read_text().split("  - name: ")

    assert alerts == {name for case in fires for name in re.findall(r"alertname: (\w+)\n\s+exp_alerts", case)}
    assert alerts == set(re.findall(r"alertname: (\w+)}", fires[1]))
