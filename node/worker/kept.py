"""Keep at the node what one task leaves for those that build on it: tensors in sections, in one file that never leaves.

A task reads the file of the task before it and writes another, so that one that is repeated after a crash starts from the same state and
gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from common.payload.tensors import open_tensors, save_tensors

Section = Literal["residual", "scaffold", "feddyn", "plan", "ditto"]
"""What an encoding left out, the control variate of SCAFFOLD, the gradient of FedDyn, persistent tensors of the plan, a personal model."""


class Kept:
    """What was kept of an earlier task.

    Args:
        path: Its file; None if there is none, which is as good as an empty one.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def section(self, section: Section) -> dict[str, Tensor]:
        """Return the tensors of a section by name; they are read from the file when they are used.

        Raises:
            InvalidTensorsError: If the file is damaged.
        """
        if self._path is None:
            return {}
        with open_tensors(self._path) as file:
            prefix = f"{section}/"
            return {name.removeprefix(prefix): file[name] for name in file if name.startswith(prefix)}


def keep(path: Path, sections: Mapping[Section, Mapping[str, Tensor]]) -> bool:
    """Write what is to be kept, and return whether there is anything; if not, nothing is written.

    Raises:
        InvalidTensorsError: If a tensor cannot be written.
        DiskFullError: If there is no space.
    """
    tensors = {f"{section}/{name}": value for section, own in sections.items() for name, value in own.items()}
    if tensors:
        save_tensors(path, tensors)
    return bool(tensors)
