"""Look into the folder of MedNIST."""

from typing import Final

from common.datasets.families.images import ImageFamily
from common.datasets.formats import MEDNIST

FAMILY: Final = ImageFamily(classes=MEDNIST)
