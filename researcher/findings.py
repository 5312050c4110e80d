"""Offer what came out of an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from researcher.history import History
from researcher.participation import Participation
from researcher.preparation import described

if TYPE_CHECKING:
    from common.training_plans import TorchTrainingPlan


class Findings(Participation):
    """What can be read of an experiment, whether it runs or not."""

    def training_plan(self) -> TorchTrainingPlan:
        """Return the plan with the current global model; `export_model(path)` writes that.

        Seeds the global generators of `random`, `numpy` and `torch`.

        Raises:
            NotTrainedError: If no round was finished.
        """
        return self._dossier.plan()

    def history(self) -> History:
        """Return what happened in each round, at each node."""
        if not self._dossier.begun:
            return History([])
        with self._dossier.reading() as ledger:
            return History(ledger.rounds(), self._dossier.settings.training_args.average)

    def stopped(self) -> str | None:
        """Return why no further round is run, if `early_stopping` says so; other settings may let it go on."""
        rule = self._dossier.settings.early_stopping
        if rule is None or not self._dossier.begun:
            return None
        with self._dossier.reading() as ledger:
            return rule.watch(ledger.rounds(), self._dossier.settings.training_args.average).reason

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
