"""The areas of the page, in the order of the navigation."""

from typing import Final

from node.gui.area import Area
from node.gui.pages import activity, audit, entrance, me, overview, people, plans, settings

AREAS: Final[tuple[Area, ...]] = (
    overview.AREA,
    plans.AREA,
    activity.AREA,
    audit.AREA,
    settings.AREA,
    people.AREA,
    me.AREA,
    entrance.AREA,
)
