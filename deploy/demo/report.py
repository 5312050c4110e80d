"""Write what came of the demo to files: results, model, picture, and a page for people."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from statistics import median
from typing import Final

from common.security.files import write_atomic
from deploy.demo.chart import loss_chart
from deploy.demo.hospitals import NAMES
from deploy.demo.results import Results, versions
from deploy.demo.table import MEASURES, NOTE, Row, number, reading, rows

RESULTS: Final = "results.json"
MODEL: Final = "model.safetensors"
CHART: Final = "loss.svg"
REPORT: Final = "report.html"

_CARRIERS: Final = {
    "rabbitmq": "a private RabbitMQ on this machine, by mutual TLS only; one process for each node",
    "memory": "memory of one process, without RabbitMQ; one thread for each node",
}

_CSS: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2430; --soft: #5b6573; --rule: #e3e6eb; --tint: #f3f6fa; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181f; --ink: #e8ebf0; --soft: #9aa4b2; --rule: #2b323d; --tint: #1c232d; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
p { max-width: 46rem; margin: .75rem 0; }
a { color: inherit; }
.soft, footer { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 600; }
th:first-child { text-align: left; }
th[colspan] { text-align: center; border-bottom: 0; }
tbody th { font-weight: 400; }
tbody tr:last-child > * { font-weight: 600; }
.ours { background: var(--tint); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); padding-top: 1rem; font-size: .88rem; }
""".strip()

_HEAD: Final = f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Four hospitals, one model</title>
<style>{_CSS}</style>
</head>"""

_SOURCES: Final = """\
Data: Heart Disease, UCI Machine Learning Repository, 1988, <a href="https://doi.org/10.24432/C52P4X">doi.org/10.24432/C52P4X</a>,
<a href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>. Principal investigators: Andras Janosi, M.D. (Hungarian
Institute of Cardiology, Budapest); William Steinbrunn, M.D. (University Hospital, Zurich); Matthias Pfisterer, M.D. (University
Hospital, Basel); Robert Detrano, M.D., Ph.D. (V.A. Medical Center, Long Beach, and Cleveland Clinic Foundation). Prepared as in
FLamby, Fed-Heart-Disease: rows with missing values left out, coded columns made into indicators."""


def write_files(results: Results, out: Path) -> list[Path]:
    """Write all but the model into a folder, each file whole or not at all, and return all files of the demo there.

    Raises:
        DiskFullError: If the disk is full.
        OSError: If the folder cannot be written.
    """
    picture = loss_chart(results.losses, results.mean_losses)
    document = json.dumps(results.document(), indent=2, allow_nan=False) + "\n"
    for name, text in ((RESULTS, document), (CHART, picture), (REPORT, page(results, picture))):
        write_atomic(out / name, text.encode())
    return [out / name for name in (RESULTS, MODEL, CHART, REPORT)]


def page(results: Results, picture: str) -> str:
    """Return one HTML page that loads nothing and runs nothing.

    Args:
        results: What came of the demo; every text of it is escaped.
        picture: The chart as SVG, put in as it is.
    """
    ours, optimum = results.federated, results.optimum
    lead = (
        f"Four hospitals trained one model in {len(results.rounds)} rounds. What left a hospital was 14 numbers per round, its losses "
        "and its scores, signed and encrypted; never a patient's record."
    )
    outcome = (
        f"The model's log-loss on all training patients is {ours.train_log_loss:.4f}. The best that anybody could reach with "
        f"all data in one place is {optimum.train_log_loss:.4f}."
    )
    terms = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in _facts(results))
    return "\n".join(
        [
            _HEAD,
            "<body><main>",
            "<h1>Four hospitals, one model</h1>",
            f"<p>{escape(lead)} {escape(outcome)}</p>",
            "<h2>How good is it?</h2>",
            f'<div class="wide">{_table(rows(results))}</div>',
            f'<p class="soft">{escape(reading(results))}</p>',
            f"<p><strong>{escape(NOTE)}</strong></p>",
            "<h2>How it was learnt</h2>",
            picture.rstrip(),
            "<h2>What ran where</h2>",
            f"<dl>{terms}</dl>",
            f"<footer>{_SOURCES}</footer>",
            "</main></body>",
            "</html>\n",
        ]
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    clock = results.clockings
    round_ms = 1000 * median(one.duration_s for one in results.rounds)
    return [
        ("messages went through", _CARRIERS[results.broker]),
        ("training ran in", "a worker process for each node, on one CPU thread"),
        (
            "plan",
            f"HeartPlan, a logistic regression; its hash {results.plan_hash} was approved at each node by the demo",
        ),
        (
            "rounds",
            f"{len(results.rounds)} of federated averaging weighted by samples; median {round_ms:.0f} ms",
        ),
        (
            "first round",
            f"closed {clock.first_round_closed_s:.1f} s after launch, the start of everything included",
        ),
        ("whole run", f"{clock.total_s:.1f} s"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
    ]


def _table(lines: list[Row]) -> str:
    groups = "".join(f'<th colspan="3" scope="colgroup">{escape(measure)}</th>' for measure in MEASURES)
    heads = '<th scope="col" class="ours">federated</th><th scope="col">alone</th><th scope="col">pooled</th>'
    return (
        f'<table><thead><tr><th colspan="2"></th>{groups}</tr>'
        f'<tr><th scope="col">hospital</th><th scope="col">train / test</th>{heads * len(MEASURES)}</tr></thead>'
        f"<tbody>{''.join(_line(row) for row in lines)}</tbody></table>"
    )


def _line(row: Row) -> str:
    name = escape(NAMES.get(row.name, row.name))
    cells = "".join(
        f'<td class="ours">{number(ours)}</td><td>{number(alone)}</td><td>{number(pooled)}</td>'
        for ours, alone, pooled in row.measures
    )
    return f'<tr><th scope="row">{name}</th><td>{row.n_train} / {row.n_test}</td>{cells}</tr>'
