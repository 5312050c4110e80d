"""Offer what an experiment asks of its nodes before it runs: data, and consent to its plan."""

from __future__ import annotations

from abc import ABC, abstractmethod

from common.ids import PartyId
from common.messages import PlanApprovalReply, PlanStatusReply
from researcher.adjustable import Adjustable
from researcher.federation import Federation
from researcher.preparation import choose_data
from researcher.training_data import TrainingData


class Participation(Adjustable, ABC):
    """An experiment's data at the nodes, and their approval of its plan."""

    @property
    @abstractmethod
    def _federation(self) -> Federation:
        """Return where the experiment runs."""

    def training_data(self) -> TrainingData:
        """Return the data set of each node, and what differs between them; searches if that was not done yet.

        Raises:
            NoDatasetError: If no node has one.
            AmbiguousDatasetError: If a node has several.
        """
        if self._dossier.row.training_data is None:
            self._dossier.choose(choose_data(self._federation, self._dossier.settings))
        return TrainingData(self._dossier.row.training_data or {})

    def request_approval(self, note: str = "") -> dict[PartyId, PlanApprovalReply]:
        """Ask the people of the nodes to approve the plan; those that are offline find the request when they return.

        Returns:
            What each node that is online says: usually that the request is pending.
        """
        row, nodes = self._dossier.row, self.nodes()
        return self._federation.request_approval(
            row.plan_name,
            row.plan_hash,
            row.plan_source,
            note=note,
            nodes=nodes or tuple(self.training_data()),
        )

    def training_plan_approve(self, description: str = "") -> dict[PartyId, PlanApprovalReply]:
        """Do what `request_approval` does, by Fed-BioMed's name."""
        return self.request_approval(description)

    def check_training_plan_status(self) -> dict[PartyId, PlanStatusReply]:
        """Return what each node of the experiment decided about the plan."""
        return self._federation.plan_status(self.plan_hash, tuple(self.training_data()))
