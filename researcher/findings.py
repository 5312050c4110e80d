"""Offer what came out of an experiment."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, Literal, cast

from common.cli import table
from common.errors import NotTrainedError, RoundNotKeptError
from common.messages import ColumnMoments
from common.training_plans.base import P_co
from researcher.chart import Chart, chart_of
from researcher.comparison import Comparison, compare
from researcher.drift import Drift
from researcher.history import History
from researcher.page import html_of
from researcher.participation import Participation
from researcher.preparation import described


class Findings(Participation, Generic[P_co]):
    """What can be read of an experiment, whether it runs or not."""

    def training_plan(self) -> P_co:
        """Return the plan with the current global model; `export_model(path)` writes that.

        Seeds the global generators of `random`, `numpy` and `torch`.

        Raises:
            NotTrainedError: If no round was finished.
        """
        return cast("P_co", self._dossier.plan())

    def history(self) -> History:
        """Return what happened in each round, at each node."""
        if not self._dossier.begun:
            return History([])
        with self._dossier.reading() as ledger:
            return History(ledger.rounds(), self._dossier.settings.training_args.average)

    def moments(self) -> tuple[ColumnMoments, ...] | None:
        """Return count, mean and spread of columns over the training parts of all nodes, or None if nobody was asked for them yet."""
        return self._dossier.row.moments

    def _repr_html_(self) -> str:
        history = self.history()
        limit = self._dossier.settings.round_limit
        rows = [
            ("rounds", f"{self.round_current()} of {'any number' if limit is None else limit}"),
            ("state", self.stopped() or ("finished" if self.finished() else "not finished")),
            ("plan", self._dossier.row.plan_name),
            *(
                (f"at {node}", text)
                for node, text in described(self._dossier.row.training_data or {}).items()
            ),
            ("folder", self.folder or "not begun"),
        ]
        shown = html_of(table(f"experiment {self.name}", "", rows=rows))
        return shown + history.plot().svg if history.scores() else shown

    def finished(self) -> bool:
        """Tell whether it has run all rounds that it is to run, and nothing of its last run is left to do."""
        done = self.stopped() is not None or self.round_current() == self.round_limit()
        if not self._dossier.begun or not done:
            return False
        with self._dossier.reading() as ledger:
            return ledger.experiment().run is None and not ledger.open_rounds()

    def stopped(self) -> str | None:
        """Return why no further round is run, if `early_stopping` says so; other settings may let it go on."""
        rule = self._dossier.settings.early_stopping
        if rule is None or not self._dossier.begun:
            return None
        with self._dossier.reading() as ledger:
            return rule.watch(ledger.rounds(), self._dossier.settings.training_args.average).reason

    def drift(self) -> list[Drift]:
        """Return how far each node moved the model in each closed round, and how much it agreed with the others.

        Rounds whose updates or models the retention of the experiment removed are left out.
        """
        found: list[Drift] = []
        for record in self.history().training:
            with TemporaryDirectory(prefix="warren-drift-") as scratch, suppress(RoundNotKeptError):
                found += self._dossier.drift(record, Path(scratch))
        return found

    def plot_drift(self, what: Literal["norm", "cosine"] = "norm") -> Chart:
        """Return a chart of the norms of nodes' changes, or of their cosines to the mean change; `save` writes it as SVG.

        Raises:
            NotTrainedError: If no round has updates that are kept.
        """
        drifts = self.drift()
        if not drifts:
            raise NotTrainedError(experiment=self.name)
        rounds = sorted({one.round for one in drifts})
        values = {(one.node, one.round): one.norm if what == "norm" else one.cosine for one in drifts}
        titles = {"norm": "Norm of the change at each node", "cosine": "Cosine to the mean change of nodes"}
        nodes = sorted({one.node for one in drifts})
        lines: dict[str, list[float | None]] = {
            node: [values.get((node, round_)) for round_ in rounds] for node in nodes
        }
        return chart_of(titles[what], lines, {}, rounds)

    def compare(self, other: Findings[Any]) -> Comparison:
        """Return this experiment beside another: the settings that differ, and the last value of each metric; print it."""
        names = (self.name, other.name if other.name != self.name else f"{other.name} (2)")
        settings = (self._dossier.settings.config(), other._dossier.settings.config())
        plans = ({"plan_hash": self.plan_hash}, {"plan_hash": other.plan_hash})
        return compare(
            names, (settings[0] | plans[0], settings[1] | plans[1]), (self.history(), other.history())
        )

    def round_current(self) -> int:
        """Return the number of rounds that were finished."""
        if not self._dossier.begun:
            return 0
        with self._dossier.reading() as ledger:
            model = ledger.last_model()
        return model[0] if model else 0

    def info(self) -> dict[str, Any]:
        """Return all settings and where the experiment stands, as plain values."""
        row = self._dossier.row
        return {
            "id": row.id,
            "name": row.name,
            "folder": None if self.folder is None else str(self.folder),
            "round_current": self.round_current(),
            "stopped": self.stopped(),
            "plan": row.plan_name,
            "plan_hash": row.plan_hash,
            **self._dossier.settings.config(),
            "training_data": described(row.training_data or {}),
        }
