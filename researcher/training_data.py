"""Compare the data sets of several nodes before anything is trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import InvalidSettingsError
from common.ids import PartyId
from common.messages import DatasetDescription

ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same at all nodes.

    Attributes:
        subject: What it is about: `type`, `classes`, `shape`, or `column NAME`.
        found: What each node has, in words.
    """

    subject: str
    found: Mapping[PartyId, str]

    def __str__(self) -> str:
        return f"{self.subject}: " + "; ".join(f"{what} at {nodes}" for what, nodes in self.groups())

    def groups(self) -> list[tuple[str, str]]:
        """Return what was found, and at which nodes, the most frequent first."""
        groups: dict[str, list[str]] = {}
        for node, what in sorted(self.found.items()):
            groups.setdefault(what, []).append(node)
        return sorted(
            ((what, ", ".join(nodes)) for what, nodes in groups.items()),
            key=lambda group: -len(group[1].split(", ")),
        )


class TrainingData(dict[PartyId, DatasetDescription]):
    """The data set of each node; prints what they have in common and where they differ."""

    @property
    def common_columns(self) -> tuple[str, ...]:
        """Return the columns that all nodes have with the same type and unit, in the order of the first node."""
        apart = {difference.subject for difference in self.differences}
        first = next(iter(self.values()), None)
        return tuple(
            column.name for column in (first.columns if first else ()) if f"column {column.name}" not in apart
        )

    def categories(self, column: str) -> tuple[str, ...]:
        """Return all categories that occur in a column at any node, sorted: what a plan names in `categories`.

        Raises:
            InvalidSettingsError: If a node has no such column, or its people let nobody know; names those nodes.
        """
        found = {
            node: next((known.categories for known in one.columns if known.name == column), ())
            for node, one in self.items()
        }
        if silent := [node for node, known in found.items() if not known]:
            problems = "\n".join(
                f"  {node}: does not tell them; its people can, with the option tell_categories"
                for node in silent
            )
            raise InvalidSettingsError(source=f"categories of {column!r}", problems=problems)
        return tuple(sorted({one for known in found.values() for one in known}))

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Return what differs: types, columns with their types and units, classes and the shape of samples."""
        found = [
            Difference("type", {node: one.data_type for node, one in self.items()}),
            Difference("shape", {node: _shape(one) for node, one in self.items()}),
            Difference("classes", {node: ", ".join(one.classes) or "none" for node, one in self.items()}),
        ]
        columns = {
            node: {column.name: f"{column.dtype} {column.unit}".strip() for column in one.columns}
            for node, one in self.items()
        }
        names = dict.fromkeys(name for some in columns.values() for name in some)
        found += [
            Difference(f"column {name}", {node: some.get(name, ABSENT) for node, some in columns.items()})
            for name in names
        ]
        told: dict[str, dict[PartyId, str]] = {}
        for node, one in self.items():
            for column in one.columns:
                if column.categories:
                    told.setdefault(column.name, {})[node] = ", ".join(column.categories)
        found += [Difference(f"categories of {name}", some) for name, some in told.items()]
        return tuple(one for one in found if len(set(one.found.values())) > 1)

    def __str__(self) -> str:
        lines = [
            f"{node}: {one.name}, {one.data_type}, {one.samples} samples"
            + (f", {one.left_out} left out" if one.left_out else "")
            for node, one in self.items()
        ]
        lines.append(f"the same everywhere: {', '.join(self.common_columns) or 'no column'}")
        return "\n".join([*lines, *(f"differs: {one}" for one in self.differences)])


def _shape(one: DatasetDescription) -> str:
    """Return the shape of a sample; that of a row follows from its columns."""
    if one.data_type == "tabular" or len(one.shape) == 1:
        return "its own"
    return " x ".join(map(str, one.shape[1:]))
