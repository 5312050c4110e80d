"""The areas of the page, in the order of the navigation."""

from typing import Final

from node.gui.area import Area
from node.gui.pages import entrance, overview

AREAS: Final[tuple[Area, ...]] = (
    overview.AREA,
    entrance.AREA,
)
