"""Show values of a data set: its first samples, and counts of all of them. Each look is recorded with its person."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from common.errors import WarrenError
from node.dataset import Dataset
from node.gui import errands
from node.gui.area import Area, get
from node.gui.errands import Subject
from node.gui.pages.sets import the_set
from node.gui.people import Role
from node.gui.visit import Visit
from node.views.figures import Glimpse, Summary


def samples(visit: Visit) -> Response:
    """Show the page that asks for the first samples at once."""
    return _waiting(visit, "samples")


def samples_now(visit: Visit) -> Response:
    """Show the first samples."""
    dataset = the_set(visit)
    return show_samples(visit, subject_of(dataset), dataset=dataset)


def show_samples(visit: Visit, subject: Subject, *, dataset: Dataset | None) -> Response:
    """Show the first samples of a set, registered or not, with pictures where it has some."""
    try:
        found = visit.site.runner.do(errands.ShowFirst(subject=subject), Glimpse, by=visit.by)
    except WarrenError as error:
        return visit.show("data_no_values.html", status=422, trouble=error)
    key = visit.site.runner.put_picture(found.sheet, visit.known.person_id) if found.sheet else None
    names = tuple(dict.fromkeys(name for row in found.rows for name in row))
    return visit.show("data_samples.html", found=found, names=names, picture=key, dataset=dataset)


def counts(visit: Visit) -> Response:
    """Show the page that asks for the counts at once."""
    return _waiting(visit, "counts")


def counts_now(visit: Visit) -> Response:
    """Show histograms, balances of classes and missing values."""
    dataset = the_set(visit)
    try:
        found = visit.site.runner.do(errands.Summarise(subject=subject_of(dataset)), Summary, by=visit.by)
    except WarrenError as error:
        return visit.show("data_no_values.html", status=422, trouble=error)
    return visit.show("data_counts.html", found=found, dataset=dataset)


def subject_of(dataset: Dataset) -> Subject:
    """Return a registered set as something to look at."""
    return Subject(
        path=dataset.path,
        data_type=dataset.data_type,
        options=dict(dataset.parameters),
        dataset_id=dataset.dataset_id,
    )


def _waiting(visit: Visit, what: str) -> Response:
    return visit.show("data_look.html", dataset=the_set(visit), what=what)


AREA: Final = Area(
    "seeing",
    (
        get("/data/set/{dataset_id}/samples", Role.MANAGER, samples),
        get("/data/set/{dataset_id}/samples/now", Role.MANAGER, samples_now),
        get("/data/set/{dataset_id}/counts", Role.MANAGER, counts),
        get("/data/set/{dataset_id}/counts/now", Role.MANAGER, counts_now),
    ),
)
