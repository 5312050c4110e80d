"""Find the data of an experiment, and make sure that its plan may run there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from common.errors import AmbiguousDatasetError, NoDatasetError, PlanNotApprovedError
from common.ids import Digest, PartyId
from common.messages import DatasetDescription, PlanState, PlanStatusReply
from researcher.federation import Federation
from researcher.settings import ExperimentSettings


def choose_data(federation: Federation, settings: ExperimentSettings) -> dict[PartyId, DatasetDescription]:
    """Search for the data set of each node.

    Raises:
        NoDatasetError: If no node has one, or a node that was named has none.
        AmbiguousDatasetError: If a node has several.
        UnknownPartyError: If a node that was named is not in the federation.
    """
    tags = ", ".join(settings.tags)
    found = federation.search(settings.tags, settings.nodes)
    for node, datasets in found.items():
        if len(datasets) > 1:
            names = ", ".join(sorted(one.name for one in datasets))
            raise AmbiguousDatasetError(node=node, count=len(datasets), tags=tags, names=names)
    missing = sorted(set(settings.nodes or ()) - found.keys())
    if missing or not found:
        raise NoDatasetError(tags=tags, nodes=", ".join(missing) or "any node that is online")
    return {node: datasets[0] for node, datasets in found.items()}


def require_approval(federation: Federation, plan_hash: Digest, nodes: Collection[PartyId]) -> None:
    """Make sure that no node would refuse the plan; one that is offline decides when it gets its task.

    Raises:
        PlanNotApprovedError: If some would; names all of them.
    """
    refusing: dict[PlanState, list[str]] = {}
    members = set(nodes) & set(federation.members)  # one that was revoked fails by itself when it is asked
    for node, reply in federation.plan_status(plan_hash, members).items():
        if not runs(reply):
            refusing.setdefault(reply.state, []).append(node)
    if refusing:
        (status, first), *others = [(state, ", ".join(names)) for state, names in sorted(refusing.items())]
        where = " and ".join([first, *(f"{state} at {names}" for state, names in others)])
        raise PlanNotApprovedError(plan_hash=plan_hash, status=status, node=where)


def runs(reply: PlanStatusReply) -> bool:
    """Tell whether a node runs the plan."""
    return reply.state is PlanState.APPROVED or (not reply.required and reply.state is not PlanState.REJECTED)


def described(data: Mapping[PartyId, DatasetDescription]) -> dict[str, str]:
    """Return one readable line for each node."""
    return {node: f"{one.name}, {one.samples} samples, {one.data_type}" for node, one in data.items()}
