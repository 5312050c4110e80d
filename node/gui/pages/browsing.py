"""Browse the data folders of the node, and begin to add what is found there."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from common.errors import DataError
from node.gui.area import Area, get, post
from node.gui.paging import slice_of
from node.gui.people import Role
from node.gui.texts import t
from node.gui.visit import Visit
from node.steward.datasets import Datasets
from node.steward.folders import Folders, Kind


def browse(visit: Visit) -> Response:
    """Show the data folders, or what is in a folder."""
    folders = Folders(visit.home)
    roots = folders.roots()
    number = visit.query("folder")
    if not number and len(roots) != 1:
        return visit.show("data_folders.html", roots=roots)
    place = folders.place(_index(number), visit.query("path"))
    wanted = visit.query("text").strip().casefold()
    items = [item for item in folders.items(place) if wanted in item.name.casefold()]
    filters = {"folder": place.folder, "path": place.name, "text": visit.query("text").strip()}
    page = slice_of(items, visit.number("page"), path="/data/browse", filters=filters)
    registered = {dataset.path: dataset for dataset in Datasets(visit.home, visit.by).list()}
    return visit.show(
        "data_browse.html",
        place=place,
        root=roots[place.folder],
        crumbs=_crumbs(place.name),
        several=len(roots) > 1,
        page=page,
        rows=[
            (one, f"{place.name}/{one.item.name}".lstrip("/"), registered.get(place.path / one.item.name))
            for one in folders.sized(place, page.rows)
        ],
        filters=filters,
        here=registered.get(place.path),
        Kind=Kind,
    )


def begin(visit: Visit) -> Response:
    """Begin to add a file or folder: find out what it looks like, and go on to the first question."""
    place = Folders(visit.home).place(_index(visit.field("folder")), visit.secret_field("path"))
    try:
        detected, said = Datasets(visit.home, visit.by).detect(place.path), ""
    except DataError:  # the person says what it is
        detected, said = "", t("adding.not_clear")
    draft = visit.site.drafts.new(visit.known.person_id, place.path, detected)
    return visit.go(f"/data/add/{draft.draft_id}/what", said=said)


def _index(text: str) -> int:
    """Return the number of a data folder; one that there is not if it is no number."""
    return int(text or "0") if text.isascii() and len(text) < 4 and (text or "0").isdecimal() else -1


def _crumbs(name: str) -> tuple[tuple[str, str], ...]:
    """Return the folders on the way to a place: the name of each, and its path."""
    parts = name.split("/") if name else []
    return tuple((part, "/".join(parts[: position + 1])) for position, part in enumerate(parts))


AREA: Final = Area(
    "browsing",
    (
        get("/data/browse", Role.MANAGER, browse),
        post("/data/add", Role.MANAGER, begin),
    ),
)
