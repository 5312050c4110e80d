"""Choose how the payloads of an experiment are encoded."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal, NoReturn, Self, cast, get_args

from common.errors import InvalidSettingsError

EncodingName = Literal["raw", "fp16", "bf16", "int8", "topk"]

ENCODING: Final = r"^(raw|fp16|bf16|int8|topk:0\.[0-9]{1,6})(\+zstd)?$"
"""What an encoding looks like in a message or a settings file."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How tensors are written.

    Attributes:
        name: The family.
        fraction: For `topk` only: the share of the elements of a change that is sent, above 0 and below 1, of at most six decimals.
        zstd: Whether the file is compressed afterwards. Pays with int8 below some 400 Mbit/s, with bf16 below 250.

    Raises:
        InvalidSettingsError: If name and fraction do not belong together.
    """

    name: EncodingName = "raw"
    fraction: float | None = None
    zstd: bool = False

    def __post_init__(self) -> None:
        if self.name not in get_args(EncodingName):
            _refuse(f"{self.name!r} is not one of {', '.join(get_args(EncodingName))}")
        if (self.name == "topk") != (self.fraction is not None):
            _refuse("topk and only topk has a fraction, as in topk:0.01")
        if self.fraction is not None and not (
            0 < self.fraction < 1 and self.fraction == round(self.fraction, 6)
        ):
            _refuse(f"the fraction {self.fraction} is not between 0 and 1 with at most six decimals")

    @classmethod
    @lru_cache(maxsize=64)  # a handful of texts, several times in each message
    def parse(cls, text: str) -> Self:
        """Read `raw`, `fp16`, `bf16`, `int8` or `topk:0.01`, each with or without `+zstd`.

        Raises:
            InvalidSettingsError: If the text is something else.
        """
        found = re.fullmatch(ENCODING, text)
        if found is None:
            _refuse(
                f"{text!r} is not raw, fp16, bf16, int8 or, for instance, topk:0.01, with or without +zstd"
            )
        name, _, fraction = found[1].partition(":")
        return cls(cast("EncodingName", name), float(fraction) if fraction else None, found[2] is not None)

    def __str__(self) -> str:
        return self.form + ("+zstd" if self.zstd else "")

    @property
    def form(self) -> str:
        """Return the text without compression."""
        return self.name if self.fraction is None else f"{self.name}:{self.fraction:.6f}".rstrip("0")

    @property
    def feeds_back(self) -> bool:
        """Return whether what an update leaves out is kept for the next one."""
        return self.name in ("int8", "topk")

    @property
    def of_models(self) -> Encoding:
        """Return how global models are encoded when updates are encoded so.

        int8 and topk need something that the other side has already; a node that joins has nothing, so models go out raw.
        """
        return replace(self, name="raw", fraction=None) if self.feeds_back else self


def _refuse(problem: str) -> NoReturn:
    raise InvalidSettingsError(source="encoding", problems=f"  {problem}")
