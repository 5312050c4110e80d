"""Compare the tensors of a model with others that are to take their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from common.errors import ModelMismatchError
from common.payload.tensors import DTYPES

_MOST_NAMED: Final = 5

Kinds = Mapping[str, tuple[str | None, tuple[int, ...]]]
"""dtype and shape of tensors, by name."""


def kinds(tensors: Mapping[str, Tensor]) -> Kinds:
    """Return dtype and shape of tensors."""
    return {name: (DTYPES.get(value.dtype), tuple(value.shape)) for name, value in tensors.items()}


def check_fit(own: Mapping[str, Tensor], theirs: Kinds, *, where: str) -> None:
    """Make sure that tensors of these dtypes and shapes can be copied into a model.

    Raises:
        ModelMismatchError: If names, shapes or dtypes differ; says which.
    """
    ours = kinds(own)
    if ours == theirs:
        return
    groups = {"missing": ours.keys() - theirs.keys(), "unexpected": theirs.keys() - ours.keys()}
    problems = [f"{what} {_listed(sorted(names))}" for what, names in groups.items() if names]
    differing = [name for name in sorted(ours.keys() & theirs.keys()) if ours[name] != theirs[name]]
    problems += [
        f"{name} is {_written(theirs[name])} and not {_written(ours[name])}"
        for name in differing[:_MOST_NAMED]
    ]
    raise ModelMismatchError(where=where, problem="; ".join(problems))


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _written(kind: tuple[str | None, tuple[int, ...]]) -> str:
    return f"{kind[0]} {list(kind[1])}"
