"""Give times until an event to a training plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from common.datasets.tabular import ColumnKey, TabularDataset
from common.errors import DataFileError, InvalidArgumentsError


class SurvivalDataset(TabularDataset):
    """Rows of a table whose target is a float32 pair: the time under observation, and 1 if the event came or 0 if it did not.

    Args:
        input_columns: As of `TabularDataset`.
        time_column: Column of times, in whatever unit, all of them finite and not negative.
        event_column: Column of 0 and 1, or of booleans.
        **options: Further arguments of `TabularDataset`.

    Raises:
        InvalidArgumentsError: If `target_dtype` or `categories` of these columns are given.
    """

    def __init__(
        self,
        input_columns: Sequence[ColumnKey] | ColumnKey,
        time_column: ColumnKey,
        event_column: ColumnKey,
        **options: Any,
    ) -> None:
        if "target_dtype" in options or {time_column, event_column} & set(options.get("categories") or {}):
            raise InvalidArgumentsError(
                problems="  time and event are float32: give neither dtype nor categories"
            )
        super().__init__(input_columns, [time_column, event_column], target_dtype="float32", **options)

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Read the columns that are used.

        Raises:
            DataError: As `TabularDataset.bind`.
            DataFileError: Also if a time is negative or not finite, or an event is neither 0 nor 1.
        """
        super().bind(path, parameters)
        times, events = self._targets[:, 0], self._targets[:, 1]
        for count, what in (
            (int((~np.isfinite(times) | (times < 0)).sum()), "times are negative or not finite"),
            (int((~np.isin(events, (0, 1))).sum()), "events are neither 0 nor 1"),
        ):
            if count:
                raise DataFileError(path=path, data_type="survival times", reason=f"{count} {what}")
