"""Compare the federated model with what each hospital gets alone, and with the pooled optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.demo.results import Results

OVERALL: Final = "overall"
MEASURES: Final = ("accuracy", "AUC", "log-loss")

NOTE: Final = (
    "This table is computed on this machine, because a demo has the data of all four hospitals. "
    "In a real federation nobody has; each hospital sees its own row."
)

_READING: Final = (
    "Nearly all patients of Switzerland and most of the VA are ill: who gives every patient the commoner answer of the "
    "hospital is right in {majority:.1%} of the cases, on average. So look at AUC beside accuracy; a fixed answer has 0.5. "
    "“Alone” is each hospital's own model on its own patients. On the patients of all four hospitals "
    "the federated model has an AUC of {together:.3f}, and the models of one hospital {apart}."
)

Triple = tuple[float | None, float | None, float | None]
"""Trained together, alone, pooled optimum."""


@dataclass(frozen=True, slots=True)
class Row:
    """The test patients of one hospital, or of all.

    `measures` are as in `MEASURES`. Of all hospitals together accuracy is the mean of the hospitals' accuracies, the other two are
    over all patients, and alone means that each patient is scored by the model of the own hospital.
    """

    name: str
    n_train: int
    n_test: int
    measures: tuple[Triple, Triple, Triple]


def rows(results: Results) -> list[Row]:
    """Return a row for each hospital and one for all of them."""
    lines = [_row(results, name) for name in results.sites]
    ours, optimum = results.federated, results.optimum
    overall = Row(
        name=OVERALL,
        n_train=sum(row.n_train for row in lines),
        n_test=sum(row.n_test for row in lines),
        measures=(
            (ours.accuracy_mean, results.alone_accuracy_mean, optimum.accuracy_mean),
            (ours.auc_pooled, results.alone_auc_pooled, optimum.auc_pooled),
            (ours.test_log_loss, results.alone_test_log_loss, optimum.test_log_loss),
        ),
    )
    return [*lines, overall]


def reading(results: Results) -> str:
    """Return how to read the table."""
    apart = ", ".join(f"{scores.auc_pooled:.3f} ({name})" for name, scores in results.alone.items())
    return _READING.format(majority=results.majority_mean, together=results.federated.auc_pooled, apart=apart)


def number(value: float | None) -> str:
    """Return a measure as text; a dash where it is not defined."""
    return "–" if value is None else f"{value:.3f}"  # noqa: RUF001  as wide as a digit


def terminal_view(results: Results) -> RenderableType:
    """Return the table with its explanation, at most 80 columns wide."""
    view = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 3, 0, 0))
    view.add_column("\ntest patients", no_wrap=True)
    for measure in MEASURES:
        view.add_column(f"{measure}\n  fed alone  pool", no_wrap=True)
    for row in rows(results):
        cells = (" ".join(f"{number(value):>5}" for value in triple) for triple in row.measures)
        view.add_row(row.name, *cells, style="bold" if row.name == OVERALL else "")
    losses = f"train log-loss: {results.federated.train_log_loss:.4f} federated, {results.optimum.train_log_loss:.4f} pooled optimum"
    explanation = Text(f"{reading(results)} {NOTE}", style="dim")
    return Group(view, Text(""), Text(losses), Text(""), explanation)


def _row(results: Results, name: str) -> Row:
    site = results.sites[name]
    together, alone, pooled = (
        scores.sites[name] for scores in (results.federated, results.alone[name], results.optimum)
    )
    return Row(
        name=name,
        n_train=len(site.train),
        n_test=len(site.test),
        measures=(
            (together.accuracy, alone.accuracy, pooled.accuracy),
            (together.auc, alone.auc, pooled.auc),
            (together.log_loss, alone.log_loss, pooled.log_loss),
        ),
    )
