"""Give texts in a column of a table to a training plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import JsonValue

from common.datasets.base import Dataset
from common.datasets.columns import codes
from common.datasets.families.base import parsed
from common.datasets.inspection import PERSON, ROW, TableOptions, column_names, numbered_rows, used_rows
from common.datasets.split import stable_ids
from common.errors import InvalidArgumentsError, MissingValuesError, NonNumericColumnError, UnknownColumnError

Tokenizer = Callable[[str], Sequence[int]]
Vectorizer = Callable[[Sequence[str]], Any]


class TextDataset(Dataset):
    """Texts of one column as int64 tokens of one length, and the target of each.

    The text is tokenised when it is needed. A text that is too long loses its end, a shorter one is filled up. With a vectoriser in place of
    the tokenizer a text becomes a float32 vector, which plans of scikit-learn take too.

    Args:
        text_column: Column of texts; rows without one are left out.
        target_column: Column of numbers, or of the categories given; a missing target is refused.
        tokenizer: Makes whole numbers of a text, the same way at all nodes: the plan brings it along.
        length: Tokens of each sample.
        vectorizer: Makes a matrix of a list of texts, dense or sparse, a row for each, the same way at all nodes: the `transform` of
            scikit-learn's `HashingVectorizer`, for instance, which learns nothing.
        padding: The token that fills up.
        categories: All categories that may occur among the targets, in the order of their numbers.

    Raises:
        InvalidArgumentsError: If neither a tokenizer and a length nor a vectoriser alone is given.
    """

    data_types = frozenset({"tabular"})

    def __init__(
        self,
        text_column: str,
        target_column: str,
        tokenizer: Tokenizer | None = None,
        *,
        length: int | None = None,
        vectorizer: Vectorizer | None = None,
        padding: int = 0,
        categories: Sequence[str] | None = None,
    ) -> None:
        if (tokenizer is None) != (length is None) or (tokenizer is None) == (vectorizer is None):
            raise InvalidArgumentsError(problems="  give a tokenizer and a length, or a vectorizer alone")
        self._names = (text_column, target_column)
        self._tokenizer = tokenizer
        self._length = length or 0
        self._vectorizer = vectorizer
        self._padding = padding
        self._categories = categories
        self._texts = pl.Series("", [], pl.String)
        self._targets: NDArray[Any] = np.empty(0, np.int64)
        self._ids = np.empty(0, np.int64)
        self._lasting = False

    def bind(self, path: Path, parameters: Mapping[str, JsonValue]) -> None:
        """Read the two columns.

        Raises:
            InvalidDatasetError: If what was registered with the file cannot be understood.
            DataFileError: If the file cannot be read.
            DataFileGoneError: If there is no such file.
            UnknownColumnError: If it lacks a column.
            NonNumericColumnError: If targets are neither numbers nor categories.
            UnknownCategoryError: If a category occurs that the plan does not name.
            MissingValuesError: If a target is missing.
        """
        options = parsed(TableOptions, parameters)
        known = column_names(path, options)
        ids = [] if options.id_column is None else [options.id_column]
        for column in (*self._names, *ids):
            if column not in known:
                raise UnknownColumnError(column=column, columns=", ".join(known))
        text, target = self._names
        frame = numbered_rows(path, self._names, options, options.id_column)
        frame = used_rows(frame, options).drop_nulls(text)
        if gaps := frame[target].null_count():
            raise MissingValuesError(column=target, count=gaps, rows=len(frame))
        kind = frame.schema[target]
        if self._categories is None and not (kind.is_numeric() or kind == pl.Boolean):
            raise NonNumericColumnError(column=target, dtype=str(kind))
        self._texts = frame[text].cast(pl.String)
        if self._categories is not None:
            self._targets = codes(frame[target], self._categories)
        else:
            self._targets = frame[target].cast(pl.Float32 if kind.is_float() else pl.Int64).to_numpy()
        self._lasting = bool(ids)
        self._ids = stable_ids(frame[PERSON].to_list()) if ids else frame[ROW].cast(pl.Int64).to_numpy()

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], Any]:
        return self._input(self._texts[index]), self._targets[index]

    def _input(self, text: str) -> NDArray[Any]:
        if self._vectorizer is not None:
            row = self._vectorizer([text])
            vector: NDArray[Any] = np.asarray(
                row.toarray() if hasattr(row, "toarray") else row, np.float32
            ).reshape(-1)
            return vector
        tokens = np.full(self._length, self._padding, np.int64)
        found = [] if self._tokenizer is None else list(self._tokenizer(text))[: self._length]
        tokens[: len(found)] = found
        return tokens

    @property
    def lasting_ids(self) -> bool:
        """Tell whether a column says whose row each is."""
        return self._lasting

    def sample_ids(self) -> NDArray[np.int64]:
        """Return the position of each row in the file, or what follows from the registered column of ids."""
        return self._ids
