"""Look at an experiment as it was after a past round, and go another way from there."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Generic, cast

from common.ids import Digest, PartyId
from common.training_plans.base import P_co
from researcher.dossier import Dossier
from researcher.history import History, RoundRecord

if TYPE_CHECKING:
    from researcher.experiment import Experiment


@dataclass(frozen=True, slots=True)
class Replay:
    """A round that was aggregated again.

    Attributes:
        round: Its number.
        nodes: The nodes whose updates were used.
        recorded: The model that the round made.
        model: The model that was made now.
    """

    round: int
    nodes: tuple[PartyId, ...]
    recorded: Digest
    model: Digest

    @property
    def same(self) -> bool:
        """Tell whether the two models are the same, bit by bit."""
        return self.model == self.recorded


class Breakpoint(Generic[P_co]):
    """An experiment after one of its rounds. Changes nothing in its directory."""

    def __init__(
        self, dossier: Dossier, record: RoundRecord, resume: Callable[[Path], Experiment[P_co]]
    ) -> None:
        """Stand after a closed round; `resume` opens an experiment that was branched from here."""
        self.round = record.round
        self._dossier = dossier
        self._record = record
        self._resume = resume

    def __repr__(self) -> str:
        return f"Breakpoint({self._dossier.row.name!r}, round {self.round})"

    @property
    def model(self) -> Digest:
        """Return the digest of the global model."""
        return self._dossier.model_of(self.round)[1]

    def training_plan(self) -> P_co:
        """Return the plan with the global model after this round.

        Raises:
            RoundNotKeptError: If the model was removed by the retention of the experiment.
        """
        return cast("P_co", self._dossier.plan(self.round))

    def history(self) -> History:
        """Return what happened up to this round."""
        with self._dossier.reading() as ledger:
            rounds = ledger.rounds()
        place = next(
            index
            for index, one in enumerate(rounds)
            if (one.run, one.round) == (self._record.run, self.round)
        )
        return History(rounds[: place + 1], self._dossier.settings.training_args.average)

    def export(self, path: Path | str) -> None:
        """Write the global model to a file, as safetensors; raises as `training_plan`."""
        self._dossier.export(Path(path), self.round)

    def branch(self, folder: Path | str, *, name: str | None = None) -> Experiment[P_co]:
        """Begin another experiment from this model: its own id, history and directory, the same plan and settings.

        Args:
            folder: Its directory; a relative one is beside that of this experiment.
            name: What people call it; the same if not given.

        Raises:
            ExperimentExistsError: If the directory is not empty.
            RoundNotKeptError: If the model was removed by the retention of the experiment.
        """
        return self._resume(self._dossier.branch(Path(folder), self.round, name))

    def replay(self, *, without: Collection[str] = (), export: Path | str | None = None) -> Replay:
        """Aggregate the round again from the ledger.

        Args:
            without: Nodes to leave out.
            export: Where to write the model; it is thrown away if not given.

        Raises:
            InvalidSettingsError: If a node that is to be left out sent no update.
            NoNodesError: If no update is left.
            RoundNotKeptError: If updates or models were removed by the retention of the experiment.
        """
        with TemporaryDirectory(prefix="warren-replay-") as scratch:
            draft, nodes, digest = self._dossier.aggregate(self._record, Path(scratch), set(without))
            if export is not None:
                Path(export).write_bytes(draft.read_bytes())
        recorded = self._dossier.model_of(self.round)[1]
        return Replay(self.round, nodes, recorded, digest)
