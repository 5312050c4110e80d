"""Bind an approved plan to limits on the arguments that it is run with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Final, Self, Union, get_args, get_origin

from common.errors import ArgumentLimitError, InvalidLimitError
from common.ids import PartyId
from common.messages import TrainRequest
from common.training_args import TrainingArgs

LIMITS: Final = 50
"""Most limits of one approval."""

_FORM: Final = re.compile(r"\s*([A-Za-z_][\w.]{0,100})\s*(<=|>=)\s*(-?\d{1,15}(?:\.\d{1,15})?)\s*")
_TABLES: Final = ("loader_args", "optimizer_args", "test_metric_args")
_LENGTHS: Final = {"epochs": "num_updates", "num_updates": "epochs"}
"""Each decides how long a task trains if the other is not set."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on one argument, as a person writes it: `epochs<=5`.

    Arguments are those of `training_args`, `loader_args.NAME`, `optimizer_args.NAME` and `test_metric_args.NAME` in them,
    `model_args.NAME`, and `round`.
    """

    argument: str
    operator: str
    bound: float

    def __str__(self) -> str:
        return f"{self.argument}{self.operator}{self.bound:.15g}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a limit.

        Raises:
            InvalidLimitError: If it has another form, or names no argument.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidLimitError(
                limit=text[:100], reason="it is not of the form NAME<=NUMBER or NAME>=NUMBER"
            )
        name, operator, bound = found.groups()
        table, dot, inner = name.partition(".")
        known = (table in ("model_args", *_TABLES) and inner) if dot else name == "round" or name in NUMBERS
        if not known:
            names = ", ".join(
                [*sorted(NUMBERS), "round", "model_args.NAME", *(f"{one}.NAME" for one in _TABLES)]
            )
            raise InvalidLimitError(limit=text[:100], reason=f"it names none of {names}")
        return cls(name, operator, float(bound))

    def holds(self, value: object) -> bool:
        """Tell whether an argument is a number within the limit."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return value <= self.bound if self.operator == "<=" else value >= self.bound


def _is_number(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return any(map(_is_number, get_args(annotation)))
    return annotation in (int, float)


NUMBERS: Final = frozenset(
    name for name, field in TrainingArgs.model_fields.items() if _is_number(field.annotation)
)
"""Training arguments that a limit can be set on."""


def parse_limits(texts: Iterable[str]) -> tuple[Limit, ...]:
    """Read limits.

    Raises:
        InvalidLimitError: If one has another form or names no argument, or there are too many.
    """
    limits = tuple(Limit.parse(text) for text in texts)
    if len(limits) > LIMITS:
        raise InvalidLimitError(limit=str(limits[LIMITS]), reason=f"there are more than {LIMITS}")
    return limits


def check_limits(limits: Iterable[Limit], request: TrainRequest, *, node: PartyId) -> None:
    """Make sure that what a researcher asks keeps to every limit. An argument that is not set breaks a limit on it.

    Of `epochs` and `num_updates` one may be missing if the other is limited too: it alone decides then.

    Raises:
        ArgumentLimitError: At the first limit that is not kept.
    """
    limits = tuple(limits)
    limited = {limit.argument for limit in limits}
    for limit in limits:
        value = _argument(request, limit.argument)
        other = _LENGTHS.get(limit.argument)
        if value is None and other in limited and _argument(request, other) is not None:
            continue
        if not limit.holds(value):
            shown = "not set" if value is None else value if isinstance(value, int | float) else "no number"
            raise ArgumentLimitError(node=node, limit=str(limit), argument=limit.argument, value=shown)


def _argument(request: TrainRequest, name: str) -> object:
    if name == "round":
        return request.round
    table, _, inner = name.partition(".")
    value: object = request.model_args if table == "model_args" else getattr(request.training_args, table)
    for key in inner.split(".") if inner else ():
        value = value.get(key) if isinstance(value, dict) else None
    return value
