"""Look into the folder of MedNIST."""

from typing import Final

from common.datasets.families.images import ImageFamily
from common.datasets.images import MEDNIST

FAMILY: Final = ImageFamily(classes=MEDNIST)
