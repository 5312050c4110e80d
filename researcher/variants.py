"""Offer an experiment in several variants: sweeps over training arguments, and cross-validation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

from common.errors import InvalidSettingsError
from common.training_args import TrainingArgs
from common.training_plans.base import P_co
from researcher.dossier import Dossier
from researcher.federation import Federation
from researcher.findings import Findings
from researcher.ledger import FILE
from researcher.monitoring import Observer
from researcher.trials import Point, Trials, fold_points, folder_of, grid_of, run_trials, varied


class Variants(Findings[P_co]):
    """An experiment that can be run in several variants, each an experiment of its own with a directory of its own.

    Without a `random_seed` of its own the variants have the seed 0, so that whoever was interrupted and calls again finds what is
    finished.
    """

    _seed_drawn: bool = False
    _observers: list[Observer]

    @abstractmethod
    def _begin(
        self, dossier: Dossier, federation: Federation | None, observers: Sequence[Observer] | None
    ) -> None:
        """Take up what a dossier describes."""

    @abstractmethod
    def run(self, rounds: int | None = None, increase: bool = False) -> int:  # noqa: FBT001, FBT002 - Fed-BioMed's signature
        """Run rounds and return how many were finished."""

    @abstractmethod
    def close(self) -> None:
        """Tell the nodes that nothing more comes, and close the directory."""

    def sweep(self, grid: Mapping[str, Sequence[Any]], *, draws: int | None = None, seed: int = 0) -> Trials:
        """Run this experiment once for each combination of training arguments; see `run_trials`.

        Args:
            grid: The values to try of each argument, `{"optimizer_args.lr": [0.1, 0.01]}` for instance.
            draws: How many combinations to draw at random, none twice; all of them if not given.
            seed: Seed of the draw.

        Raises:
            InvalidSettingsError: If there is no round limit, or nothing to try.
            InvalidArgumentsError: If a combination is wrong; nothing has run then.
        """
        return run_trials(self, grid_of(grid, draws=draws, seed=seed))

    def cross_validate(self, k: int = 5) -> Trials:
        """Run this experiment once for each of k test parts, of which each sample of every node is in one; see `run_trials`.

        The table of the result has a row for each part; its `summary()` has mean and deviation over them. What counts is how the
        last global model does on the part that was held back.

        Raises:
            InvalidSettingsError: If there is no round limit.
            InvalidArgumentsError: If `k` is less than 2.
        """
        return run_trials(self, fold_points(k))

    def variant(self, point: Point) -> Self:
        """Return an experiment with some other training arguments, taken up again if its directory is there.

        Args:
            point: The arguments, `{"optimizer_args.lr": 0.1}` for instance.

        Raises:
            InvalidSettingsError: If this one has no round limit.
            InvalidArgumentsError: If the arguments are wrong.
        """
        settings = self._dossier.settings.changed(training_args=self._varied(point))
        if settings.round_limit is None:
            raise InvalidSettingsError(source=self.name, problems="  round_limit: missing")
        path = self._federation.home.experiments / folder_of(self.name, self.plan_hash, settings.config())
        plan = self._dossier.plan_class
        if (path / FILE).exists():
            dossier = Dossier.open(
                path, plan_class=plan, aggregator=settings.aggregator, strategy=settings.strategy
            )
        else:
            dossier = Dossier.draft(settings, plan, name=path.name, folder=path)
        made = type(self).__new__(type(self))
        made._begin(dossier, self._federation, self._observers)  # noqa: SLF001 - of this class
        return made

    def _varied(self, point: Point) -> TrainingArgs:
        args = self.training_args()
        return varied(args | {"random_seed": 0} if self._seed_drawn else args, point)
