"""The areas of the page, in the order of the navigation."""

from typing import Final

from node.gui.area import Area
from node.gui.pages import (
    activity,
    adding,
    audit,
    browsing,
    changing,
    data,
    entrance,
    me,
    overview,
    people,
    plans,
    seeing,
    sets,
    settings,
)

AREAS: Final[tuple[Area, ...]] = (
    overview.AREA,
    data.AREA,
    changing.AREA,
    seeing.AREA,
    browsing.AREA,
    adding.AREA,
    sets.AREA,
    plans.AREA,
    activity.AREA,
    audit.AREA,
    settings.AREA,
    people.AREA,
    me.AREA,
    entrance.AREA,
)
