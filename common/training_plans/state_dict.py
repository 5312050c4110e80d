"""Read the state dicts that people have from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 - only the type of the error; nothing is unpickled here

import torch
from torch import Tensor

from common.errors import InvalidTensorsError


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that `torch.save` wrote, on the CPU; nothing in the file is run.

    Raises:
        InvalidTensorsError: If it cannot be read, or holds anything but tensors by name.
    """
    try:
        # a person's own file, and the one format that it comes in; with weights_only torch refuses to run anything
        found = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - see above
    except OSError as error:
        raise InvalidTensorsError(reason=f"it cannot be read: {error.strerror}") from error
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InvalidTensorsError(reason="it is no state dict of tensors alone") from error
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()
    ):
        raise InvalidTensorsError(reason="it is no state dict of tensors alone")
    return dict(found)
