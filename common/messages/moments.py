"""Define the moments of a column: what several nodes tell of them adds up to those of all their rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from common.messages.base import Count, Name, Part

MOMENTS: Final = 500
"""Most columns of which one message tells moments."""


class ColumnMoments(Part):
    """Count, mean and spread of the values of one column, missing ones left out.

    They add up over nodes as Chan, Golub and LeVeque (1979) say; see `common.pooling.pooled_moments`.
    """

    name: Name
    """As the plan names the column; a position as its digits."""
    count: Count
    mean: Annotated[float, Field(allow_inf_nan=False)]
    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Sum of squared differences from the mean."""

    @property
    def deviation(self) -> float:
        """Return the standard deviation (ddof 1); 0 of fewer than two values."""
        return float((self.spread / (self.count - 1)) ** 0.5) if self.count > 1 else 0.0


def _told_once(moments: tuple[ColumnMoments, ...]) -> tuple[ColumnMoments, ...]:
    if len({one.name for one in moments}) < len(moments):
        raise ValueError("moments of one column are told twice")
    return moments


Moments = Annotated[
    tuple[ColumnMoments, ...], Field(min_length=1, max_length=MOMENTS), AfterValidator(_told_once)
]


def by_name(moments: tuple[ColumnMoments, ...] | None) -> Mapping[str, ColumnMoments] | None:
    """Return moments by the names of their columns; none if there are none."""
    return None if moments is None else {one.name: one for one in moments}
