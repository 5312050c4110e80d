"""Give samples of two data sets that belong to the same subjects to a training plan."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.base import Dataset, Rows
from common.errors import InvalidArgumentsError, NotJoinableError
from common.messages import ColumnMoments

log = logging.getLogger(__name__)

Which = Literal["first", "second"]
Unmatched = Literal["drop", "refuse"]

_NOBODY: Final = np.empty(0, np.int64)


class JoinedDataset(Dataset):
    """Samples of two data sets of a node, joined by whose they are: images and a table of covariates, for instance.

    The first set is the one that the experiment's `tags` find, the second the one that `join_tags` of its training arguments find. Samples are those of the
    first set; each gets the one sample that the second has of the same subject. An input is the pair of both inputs, the target that of
    one of the sets. Subjects go to the training or the test part as a whole, by their id alone.

    A table says whose its rows are by its registered `id_column` or that of the plan; a medical folder by the names of its folders; images and
    signals by the names of their files without folder and ending; a custom set by `subjects`.

    Args:
        first: May have several samples of a subject.
        second: Has at most one of each. A table without a target of its own has `target_columns=[]`.
        target: Whose target is the target.
        unmatched: What to do about samples of the first set whose subject the second lacks: leave them out, or refuse the sets.
    """

    def __init__(
        self, first: Dataset, second: Dataset, *, target: Which = "first", unmatched: Unmatched = "drop"
    ) -> None:
        if target not in get_args(Which) or unmatched not in get_args(Unmatched):
            raise InvalidArgumentsError(
                problems="  target should be first or second, and unmatched drop or refuse"
            )
        self.first = first
        self.second = second
        self._target = target
        self._unmatched = unmatched
        self._rows: tuple[Rows, Rows] = (_NOBODY, _NOBODY)
        self._subjects = _NOBODY

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Read the first set; as its own `bind`."""
        self.first.bind(path, parameters)

    def join(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Read the second set and find the partner of each sample.

        Args:
            path: The registered file or folder of the second set.
            parameters: What was registered with it.

        Raises:
            DataError: As the second set's own `bind`.
            NotJoinableError: If a set does not say whose its samples are, the second has several samples of a subject, no subject is in both,
                or one lacks a partner and that is to be refused. Tells counts, never ids.
        """
        self.second.bind(path, parameters)
        ours, theirs = _subjects(self.first, "first"), _subjects(self.second, "second")
        order = np.argsort(theirs, kind="stable")
        names = theirs[order]
        if twice := len(names) - len(np.unique(names)):
            raise NotJoinableError(reason=f"the second has {twice} samples more than subjects")
        place = np.searchsorted(names, ours)
        there = np.isin(ours, names)
        lacking = int((~there).sum())
        log.info(
            "data sets joined",
            extra={
                "action": "datasets_joined",
                "samples": int(there.sum()),
                "only_first": lacking,
                "only_second": int((~np.isin(theirs, ours)).sum()),
            },
        )
        if not there.any():
            raise NotJoinableError(reason="no subject is in both")
        if lacking and self._unmatched == "refuse":
            raise NotJoinableError(reason=f"{lacking} samples of the first have no partner in the second")
        self._rows = np.flatnonzero(there).astype(np.int64), order[place[there]].astype(np.int64)
        self._subjects = ours[there]

    def __len__(self) -> int:
        return len(self._subjects)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        ours, theirs = self._rows
        first, second = self.first[int(ours[index])], self.second[int(theirs[index])]
        return (first[0], second[0]), (first if self._target == "first" else second)[1]

    def sample_ids(self) -> NDArray[np.int64]:
        """Return whose each sample is."""
        return self._subjects

    @property
    def lasting_ids(self) -> bool:
        """Tell that ids are those of subjects."""
        return True

    def test_rows(self) -> Rows | None:
        """Return the samples that the first set marks for testing, or else the second; none if neither marks any."""
        for one, rows in zip((self.first, self.second), self._rows, strict=True):
            marked = one.test_rows()
            if marked is not None:
                return np.flatnonzero(np.isin(rows, marked)).astype(np.int64)
        return None

    def fit(self, train: Rows) -> None:
        """Let both sets learn from the training part; of the second, each subject counts once."""
        for one, rows in self._parts(train):
            one.fit(rows)

    def moments(self, train: Rows) -> tuple[ColumnMoments, ...]:
        """Return the moments of both sets.

        Raises:
            NotJoinableError: If both have a column of one name that needs them.
        """
        found = [one for part, rows in self._parts(train) for one in part.moments(rows)]
        names = [one.name for one in found]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise NotJoinableError(
                reason=f"both standardise a column {twice!r}; name one of them by its position"
            )
        return tuple(found)

    def fit_with(self, train: Rows, moments: Mapping[str, ColumnMoments]) -> None:
        """Let both sets learn, with moments of the whole federation."""
        for one, rows in self._parts(train):
            one.fit_with(rows, moments)

    def _parts(self, train: Rows) -> tuple[tuple[Dataset, Rows], tuple[Dataset, Rows]]:
        ours, theirs = self._rows
        return (self.first, ours[train]), (self.second, np.unique(theirs[train]))


def _subjects(dataset: Dataset, which: Which) -> NDArray[np.int64]:
    found = dataset.subjects()
    if found is None:
        raise NotJoinableError(reason=f"the {which} does not say whose its samples are")
    return found
