"""What the people of a node do with its data-loading plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import JsonValue

from common.audit.record import Action, Entry
from node.home import NodeHome
from node.loading import OF_ONE_SET, LoadingPlan, LoadingPlans
from node.registry import Registry


@dataclass(frozen=True, slots=True)
class Use:
    """A data-loading plan, and the names of the data sets whose options it made."""

    plan: LoadingPlan
    datasets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loading:
    """The data-loading plans of a node, in the hands of one person.

    Attributes:
        home: The node.
        by: The name of the person, for the audit log.
    """

    home: NodeHome
    by: str

    def save(
        self, name: str, data_type: str, options: Mapping[str, JsonValue], *, description: str = ""
    ) -> LoadingPlan:
        """Keep options under a name.

        Raises:
            InvalidLoadingPlanError: If the name is taken or too short, the type is none, or an option belongs to one data set.
            InvalidDatasetError: If an option is unknown or has a wrong value; names every mistake.
            AuditBrokenError: If it cannot be recorded; nothing was kept.
        """
        plan = LoadingPlan.of(name, data_type, options, description, by=self.by)
        audit = self.home.audit()
        with self._plans() as plans:
            plans.save(plan, witness=lambda: audit.append(self._entry(Action.LOADING_PLAN_SAVED, plan.name)))
        return plan

    def save_of(self, name: str, which: str, *, description: str = "") -> LoadingPlan:
        """Keep the options of a registered data set under a name, but for those that name its samples.

        Raises:
            NoSuchDatasetError: If there is none of that name or id.
            InvalidLoadingPlanError: As `save` does.
            AuditBrokenError: If it cannot be recorded; nothing was kept.
        """
        registry = Registry(self.home.registry_path)
        try:
            dataset = registry.find(which)
        finally:
            registry.close()
        options = {key: value for key, value in dataset.parameters.items() if key not in OF_ONE_SET}
        return self.save(name, dataset.data_type, options, description=description)

    def find(self, name: str) -> LoadingPlan:
        """Return the plan of this name.

        Raises:
            NoSuchLoadingPlanError: If there is none.
        """
        with self._plans() as plans:
            return plans.find(name)

    def show(self, name: str) -> Use:
        """Return the plan of this name, and who uses it.

        Raises:
            NoSuchLoadingPlanError: If there is none.
        """
        with self._plans() as plans:
            return Use(plans.find(name), plans.users(name))

    def list(self) -> tuple[Use, ...]:
        """Return all plans, in the order of their names."""
        with self._plans() as plans:
            return tuple(Use(plan, plans.users(plan.name)) for plan in plans.list())

    def remove(self, name: str) -> None:
        """Forget a plan that no data set uses.

        Raises:
            NoSuchLoadingPlanError: If there is none of that name.
            LoadingPlanInUseError: If data sets were registered with it; names them.
            AuditBrokenError: If it cannot be recorded; nothing was removed.
        """
        audit = self.home.audit()
        with self._plans() as plans:
            plans.remove(name, witness=lambda: audit.append(self._entry(Action.LOADING_PLAN_REMOVED, name)))

    @contextmanager
    def _plans(self) -> Iterator[LoadingPlans]:
        plans = LoadingPlans(self.home.registry_path)
        try:
            yield plans
        finally:
            plans.close()

    def _entry(self, action: Action, name: str) -> Entry:
        return Entry(action=action, actor=f"person {self.by}", note=name)
