"""Write what came of the demo to files, and show it in a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from common.security.files import write_atomic
from deploy.demo.chart import loss_chart
from deploy.demo.results import Results, versions

RESULTS: Final = "results.json"
MODEL: Final = "model.safetensors"
CHART: Final = "loss.svg"
REPORT: Final = "report.html"

_NOTE: Final = (
    "This table is computed on this machine: a demo has the data of all four hospitals. In a real federation nobody could; "
    "each hospital would see its own row."
)
_READING: Final = (
    "Nearly all patients of Switzerland and most of the VA are ill. Who always gives the commoner answer of each hospital "
    "is right in {majority:.1%} of the cases on average, so accuracy alone says little there: look at AUC, which no fixed answer "
    "can lift above 0.5, and at the last column, which shows how a model trained by one hospital alone does on patients of all four."
)

_COLUMNS: Final = ("trained together", "alone", "pooled optimum")
_MEASURES: Final = ("accuracy", "AUC", "log-loss")

_CSS: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2430; --soft: #5b6573; --rule: #e3e6eb; --tint: #f5f7fa; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181f; --ink: #e8ebf0; --soft: #9aa4b2; --rule: #2b323d; --tint: #1b212a; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; }
.lead, .note, caption, footer { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .45rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
thead tr:first-child th { text-align: center; border-bottom: 0; color: var(--soft); }
thead tr:first-child th:first-child { text-align: left; }
tbody tr:last-child { font-weight: 600; background: var(--tint); }
td.ours { background: var(--tint); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; border: 1px solid var(--rule); border-radius: 8px; }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); padding-top: 1rem; font-size: .88rem; }
""".strip()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; each triple is trained together, alone, pooled optimum."""

    name: str
    patients: str
    accuracy: tuple[float, float, float]
    auc: tuple[float | None, float | None, float | None]
    log_loss: tuple[float, float, float]
    elsewhere: float | None
    """AUC of the hospital's own model on the test patients of all hospitals."""


def rows(results: Results) -> list[Row]:
    """Return one line for each hospital and one for all of them together."""
    ours, optimum, alone = results.federated, results.optimum, results.alone
    lines = []
    for name, site in results.sites.items():
        three = (ours.sites[name], alone[name].sites[name], optimum.sites[name])
        lines.append(
            Row(
                name=name,
                patients=f"{len(site.train)} / {len(site.test)}",
                accuracy=(three[0].accuracy, three[1].accuracy, three[2].accuracy),
                auc=(three[0].auc, three[1].auc, three[2].auc),
                log_loss=(three[0].log_loss, three[1].log_loss, three[2].log_loss),
                elsewhere=alone[name].auc_pooled,
            )
        )
    train = sum(len(site.train) for site in results.sites.values())
    test = sum(len(site.test) for site in results.sites.values())
    lines.append(
        Row(
            name="overall",
            patients=f"{train} / {test}",
            accuracy=(ours.accuracy_mean, results.alone_accuracy_mean, optimum.accuracy_mean),
            auc=(ours.auc_pooled, results.alone_auc_pooled, optimum.auc_pooled),
            log_loss=(ours.test_log_loss, results.alone_test_log_loss, optimum.test_log_loss),
            elsewhere=None,
        )
    )
    return lines


def terminal_view(results: Results) -> RenderableType:
    """Return the table for a terminal, with what there is to know about it."""
    view = Table(title_justify="left", header_style="bold", pad_edge=False)
    view.add_column("test patients of")
    view.add_column("train / test", justify="right")
    for measure in _MEASURES:
        for number, column in enumerate(("together", "alone", "pooled")):
            view.add_column(f"{measure}\n{column}", justify="right", style="bold" if number == 0 else "")
    view.add_column("AUC of own\nmodel on all", justify="right")
    lines = rows(results)
    for row in lines:
        view.add_row(*_cells(row), end_section=row is lines[-2])
    return Group(
        view,
        Text(
            f"train log-loss: {results.federated.train_log_loss:.4f} together, {results.optimum.train_log_loss:.4f} pooled optimum"
        ),
        Text(_READING.format(majority=results.majority_mean), style="dim"),
        Text(_NOTE, style="dim"),
    )


def write_files(results: Results, out: Path) -> list[Path]:
    """Write results, picture and report into a folder, each whole or not at all; returns what is there now.

    Raises:
        DiskFullError: If the disk is full.
        OSError: If the folder cannot be written.
    """
    picture = loss_chart(results.losses, results.mean_losses)
    document = json.dumps(results.document(), indent=2, allow_nan=False) + "\n"
    for name, text in ((RESULTS, document), (CHART, picture), (REPORT, html(results, picture))):
        write_atomic(out / name, text.encode())
    return [out / name for name in (RESULTS, MODEL, CHART, REPORT)]


def html(results: Results, picture: str) -> str:
    """Return the report as one page that loads nothing and runs nothing.

    Args:
        results: What came of the demo.
        picture: The chart as SVG; everything else is escaped.
    """
    ours, optimum = results.federated, results.optimum
    round_ms = 1000 * median([one.duration_s for one in results.rounds])
    carrier = {
        "rabbitmq": "a private RabbitMQ on this machine, reached over mutual TLS only; one process for each node",
        "memory": "the in-memory transport of one process, without RabbitMQ; one thread for each node",
    }[results.broker]
    facts = [
        ("messages", carrier),
        ("training", "in a worker process for each node, on one CPU thread"),
        ("plan", f"HeartPlan, logistic regression; each node approved the hash {results.plan_hash}"),
        (
            "rounds",
            f"{len(results.rounds)}, federated averaging weighted by samples; median {round_ms:.0f} ms",
        ),
        (
            "first round",
            f"opened {results.clockings.first_round_opened_s:.1f} s after launch, the broker's start included",
        ),
        ("whole run", f"{results.clockings.total_s:.1f} s"),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions().items())),
    ]
    lead = (
        f"Four hospitals trained one model in {len(results.rounds)} rounds. Every message was signed and encrypted; what left a "
        "hospital was 14 numbers per round and its losses, never a patient's record."
    )
    outcome = (
        f"The model's log-loss on all training patients is {ours.train_log_loss:.4f}; the best that anybody could reach with all "
        f"data in one place is {optimum.train_log_loss:.4f}. Its AUC on all test patients is {ours.auc_pooled:.3f}, that of the optimum "
        f"{optimum.auc_pooled:.3f}."
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        "<title>Warren: four hospitals, one model</title>",
        f"<style>{_CSS}</style></head><body><main>",
        "<h1>Four hospitals, one model</h1>",
        f'<p class="lead">{escape(lead)}</p>',
        f"<p>{escape(outcome)}</p>",
        "<h2>How good is it?</h2>",
        f'<div class="wide">{_html_table(rows(results))}</div>',
        f'<p class="note">{escape(_READING.format(majority=results.majority_mean))}</p>',
        f'<p class="note">{escape(_NOTE)}</p>',
        "<h2>How it was learnt</h2>",
        picture,
        "<h2>What ran where</h2>",
        f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in facts)}</dl>",
        f"<footer>{_attribution()}</footer>",
        "</main></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _html_table(lines: Sequence[Row]) -> str:
    groups = "".join(f'<th colspan="3" scope="colgroup">{escape(measure)}</th>' for measure in _MEASURES)
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for _ in _MEASURES for column in _COLUMNS)
    body = "".join(
        f"<tr>{''.join(_html_cell(index, cell) for index, cell in enumerate(_cells(row)))}</tr>"
        for row in lines
    )
    return (
        "<table><thead><tr><th></th><th></th>"
        f"{groups}<th></th></tr>"
        f'<tr><th scope="col">hospital</th><th scope="col">patients, train / test</th>{heads}'
        '<th scope="col">AUC of own model<br>at all hospitals</th></tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _html_cell(index: int, cell: str) -> str:
    ours = index in (2, 5, 8)
    return f'<td class="ours">{escape(cell)}</td>' if ours else f"<td>{escape(cell)}</td>"


def _cells(row: Row) -> list[str]:
    return [
        row.name,
        row.patients,
        *(f"{value:.3f}" for value in row.accuracy),
        *(_number(value) for value in row.auc),
        *(f"{value:.3f}" for value in row.log_loss),
        _number(row.elsewhere),
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"  # noqa: RUF001  a dash that is as wide as a digit


def _attribution() -> str:
    return (
        "Data: Heart Disease, UCI Machine Learning Repository, 1988, "
        '<a href="https://doi.org/10.24432/C52P4X">doi.org/10.24432/C52P4X</a>, licensed CC BY 4.0. Principal investigators: '
        "Andras Janosi, M.D. (Hungarian Institute of Cardiology, Budapest), William Steinbrunn, M.D. (University Hospital, Zurich), "
        "Matthias Pfisterer, M.D. (University Hospital, Basel), Robert Detrano, M.D., Ph.D. (V.A. Medical Center, Long Beach, and "
        "Cleveland Clinic Foundation). Prepared as in FLamby&rsquo;s Fed-Heart-Disease."
    )
