"""The areas of the page, in the order of the navigation."""

from typing import Final

from node.gui.area import Area
from node.gui.pages import entrance, me, overview, people, settings

AREAS: Final[tuple[Area, ...]] = (
    overview.AREA,
    settings.AREA,
    people.AREA,
    me.AREA,
    entrance.AREA,
)
