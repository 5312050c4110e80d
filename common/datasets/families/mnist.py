"""Look into the files of MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from common.datasets.families.base import Inspection, Options
from common.datasets.mnist import CLASSES, SIDE, read_mnist
from common.messages import Column


@dataclass(frozen=True, slots=True)
class MnistFamily:
    """The two training files of MNIST in one folder."""

    options: type[Options] = Options

    def inspect(self, path: Path, options: Options) -> Inspection:
        """Read all digits.

        Raises:
            DataFileError: If a file is missing, damaged, or does not fit the other.
        """
        _, digits = read_mnist(path)
        samples = sum(str(row) not in options.leave_out for row in range(len(digits)))
        return Inspection(
            samples=samples,
            shape=(samples, SIDE, SIDE, 1),
            columns=(
                Column(name="image", dtype=f"image L {SIDE}x{SIDE}"),
                Column(name="class", dtype="Category"),
            ),
            classes=CLASSES,
            left_out=len(digits) - samples,
        )

    def preview(self, path: Path, options: Options, count: int) -> list[dict[str, JsonValue]]:  # noqa: ARG002 - of the protocol
        """Return the first digits.

        Raises:
            DataFileError: If they cannot be read.
        """
        _, digits = read_mnist(path)
        return [{"position": row, "digit": int(digits[row])} for row in range(min(count, len(digits)))]


FAMILY: Final = MnistFamily()
