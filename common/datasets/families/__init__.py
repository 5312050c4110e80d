"""Know the kinds of data sets that a node can register, each with the library of its field."""

from __future__ import annotations

import importlib
from typing import Final, cast

from common.datasets.families.base import Family

_HOMES: Final = {
    "tabular": "common.datasets.families.tabular",
    "images": "common.datasets.families.images",
    "mnist": "common.datasets.families.mnist",
    "mednist": "common.datasets.families.mednist",
    "medical-folder": "common.datasets.families.medical",
    "signals": "common.datasets.families.signals",
    "genomics": "common.datasets.families.genomics",
    "custom": "common.datasets.families.custom",
}
"""By name, so that nothing is imported before a set of that family is registered."""

DATA_TYPES: Final = tuple(_HOMES)
"""The names of the families."""


def family(data_type: str) -> Family:
    """Return the family with this name, one of `DATA_TYPES`.

    Raises:
        MissingExtraError: If its library is not installed.
    """
    return cast("Family", importlib.import_module(_HOMES[data_type]).FAMILY)
