"""What the pages about data share: the set in the path, errands on the way, and what is wrong with labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from common.errors import DataError
from common.ids import DatasetId
from node.dataset import Dataset
from node.gui.area import Area, get, post
from node.gui.errands import AnyErrand
from node.gui.people import Role
from node.gui.runner import Job
from node.gui.visit import Visit
from node.steward.datasets import Datasets

AnswerT = TypeVar("AnswerT", bound=BaseModel)

OPTION_BYTES: Final = 1024 * 1024
"""Most that a form with options may bring: a list of samples to leave out can be long."""
WAIT_S: Final = 5.0
"""After this long, a page that waits tells again how far it is."""


def the_set(visit: Visit) -> Dataset:
    """Return the data set in the path.

    Raises:
        NoSuchDatasetError: If there is none.
    """
    return Datasets(visit.home, visit.by).find(visit.path("dataset_id"))


def sent(
    visit: Visit,
    errand: AnyErrand,
    answer: type[AnswerT],
    *,
    what: str,
    back: str,
    then: Callable[[AnswerT], str],
    form: Mapping[str, str] | None = None,
) -> str:
    """Begin an errand that may take a while, and return its key; see `Runner.begin`."""
    return visit.site.runner.begin(
        errand,
        answer,
        by=visit.by,
        person_id=visit.known.person_id,
        what=what,
        back=back,
        then=then,
        form=form,
    )


def waiting(visit: Visit, key: str) -> Response:
    """Go on to the page that waits for an errand."""
    return visit.go(f"/data/job/{key}")


def ended_job(visit: Visit, key: str) -> Job | None:
    """Return an errand of this person, if it has ended and is not forgotten."""
    job = visit.site.runner.job(key, visit.known.person_id)
    return job if job is not None and job.ended.is_set() else None


def tell(visit: Visit, text: str) -> None:
    """Let the next page tell something."""
    if visit.session is not None:
        visit.site.sessions.say(visit.session.key, text)


def wrong_labels(visit: Visit, labels: Mapping[str, str], *, of: DatasetId | None = None) -> dict[str, str]:
    """Return what is wrong with name, tags and description, by these names."""
    datasets, problems = Datasets(visit.home, visit.by), {}
    checks: dict[str, Callable[[], None]] = {
        "name": lambda: datasets.check_labels(name=labels["name"], of=of),
        "tags": lambda: datasets.check_labels(tags=labels["tags"].split(","), of=of),
        "description": lambda: datasets.check_labels(description=labels["description"], of=of),
    }
    for name, check in checks.items():
        try:
            check()
        except DataError as error:
            problems[name] = error.text.format(**error.facts)
    return problems


def wait(visit: Visit) -> Response:
    """Show that an errand is on its way, for as long as it is; then go on to what came of it."""
    key = visit.path("key")
    job = visit.site.runner.job(key, visit.known.person_id)
    if job is None:
        raise HTTPException(404)
    if visit.partial:
        job.ended.wait(WAIT_S)
    if job.ended.is_set():
        return visit.go(f"{job.back if job.error else job.then}?{urlencode({'job': key})}")
    return visit.show("data_wait.html", key=key, job=job)


def stop(visit: Visit) -> Response:
    """Give an errand up."""
    job = visit.site.runner.job(visit.path("key"), visit.known.person_id)
    if job is None:
        raise HTTPException(404)
    job.give_up()
    return visit.go(job.back)


def picture(visit: Visit) -> Response:
    """Return a sheet of pictures that a page of this person has just announced, once."""
    found = visit.site.runner.take_picture(visit.path("key"), visit.known.person_id)
    if found is None:
        raise HTTPException(404)
    return Response(found, media_type="image/png")


AREA: Final = Area(
    "jobs",
    (
        get("/data/job/{key}", Role.MANAGER, wait, watches=True),
        post("/data/job/{key}/stop", Role.MANAGER, stop),
        get("/data/picture/{key}", Role.MANAGER, picture, watches=True),
    ),
)
