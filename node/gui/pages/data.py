"""List the data sets of the node, show one, check it, and forget it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from common.datasets.families.base import Inspection
from node.dataset import Dataset
from node.gui import errands
from node.gui.area import Area, get, post
from node.gui.pages.sets import ended_job, sent, the_set, waiting
from node.gui.paging import slice_of
from node.gui.people import Role
from node.gui.texts import t
from node.gui.visit import Visit
from node.steward.datasets import Datasets
from node.steward.loading import Loading
from node.steward.uses import Use, Uses


@dataclass(frozen=True, slots=True)
class Row:
    """A data set in the list, when it was used last, and how many tasks run on it."""

    dataset: Dataset
    last_at: float | None
    running: int


def listing(visit: Visit) -> Response:
    """List the sets that the filters leave."""
    known = Datasets(visit.home, visit.by).list()
    filters = {name: visit.query(name).strip() for name in ("text", "type", "tag")}
    left = matching(known, text=filters["text"], data_type=filters["type"], tag=filters["tag"])
    page = slice_of(left, visit.number("page"), path="/data", filters=filters)
    uses = Uses(visit.home, visit.by).all()
    return visit.show(
        "data_list.html",
        page=page,
        rows=[_row(dataset, uses.get(dataset.dataset_id, ())) for dataset in page.rows],
        filters=filters,
        types=sorted({dataset.data_type for dataset in known}),
        tags=sorted({tag for dataset in known for tag in dataset.tags}),
        known=len(known),
        drafts=visit.site.drafts.of(visit.known.person_id) if visit.may(Role.MANAGER) else (),
    )


def matching(datasets: Iterable[Dataset], *, text: str, data_type: str, tag: str) -> tuple[Dataset, ...]:
    """Return the sets of a type and with a tag in whose name, description, tags or columns a text occurs; what is empty leaves all."""
    wanted = text.casefold()
    return tuple(
        one
        for one in datasets
        if data_type in ("", one.data_type)
        and (not tag or tag in one.tags)
        and (not wanted or any(wanted in said.casefold() for said in _texts(one)))
    )


def show(visit: Visit) -> Response:
    """Show one data set, and after a check what that found."""
    dataset = the_set(visit)
    job = ended_job(visit, visit.query("job"))
    checked = job.answer if job is not None and isinstance(job.answer, errands.Checked) else None
    path = f"/data/set/{dataset.dataset_id}"
    return visit.show(
        "data_set.html",
        dataset=dataset,
        columns=slice_of(dataset.columns, visit.number("page"), path=path, filters={}),
        uses=Uses(visit.home, visit.by).of(dataset.dataset_id),
        trouble=job.error if job is not None else None,
        checked=checked,
        differences=tuple(differences(dataset, checked.now)) if checked and checked.now else (),
    )


def differences(before: Dataset, now: Inspection) -> Iterator[str]:
    """Yield in which ways files differ from what was registered, in words."""
    if now.samples != before.samples:
        yield t("data.now_samples", before=before.samples, now=now.samples)
    lost = [one.name for one in before.columns if one.name not in {other.name for other in now.columns}]
    new = [one.name for one in now.columns if one.name not in {other.name for other in before.columns}]
    if lost:
        yield t("data.now_lost", names=", ".join(lost))
    if new:
        yield t("data.now_new", names=", ".join(new))
    kinds = {one.name: one.dtype for one in before.columns}
    for one in now.columns:
        if kinds.get(one.name, one.dtype) != one.dtype:
            yield t("data.now_type", name=one.name, before=kinds[one.name], now=one.dtype)
    if now.classes != before.classes:
        yield t("data.now_classes", now=", ".join(now.classes))
    if now.broken:
        yield t("data.now_broken", count=len(now.broken))


def check(visit: Visit) -> Response:
    """Read all files of a set again; that may take a while."""
    dataset = the_set(visit)
    path = f"/data/set/{dataset.dataset_id}"
    errand = errands.Check(which=dataset.dataset_id)
    key = sent(visit, errand, errands.Checked, what="check", back=path, then=lambda _: path)
    return waiting(visit, key)


def remove_form(visit: Visit) -> Response:
    """Ask whether a set is to be forgotten, and tell who uses it."""
    dataset = the_set(visit)
    return visit.show(
        "data_remove.html", dataset=dataset, uses=Uses(visit.home, visit.by).of(dataset.dataset_id)
    )


def remove(visit: Visit) -> Response:
    """Forget a set; its files stay."""
    dataset = Datasets(visit.home, visit.by).remove(the_set(visit).dataset_id)
    return visit.go("/data", said=t("data.removed", name=dataset.name))


def keep(visit: Visit) -> Response:
    """Keep the options of a set under a name, as a data-loading plan."""
    wish = errands.Keep(
        which=the_set(visit).dataset_id, name=visit.field("name"), description=visit.field("description")
    )
    kept = visit.site.runner.do(wish, errands.Kept, by=visit.by)
    return visit.go("/data/loading", said=t("data.kept", name=kept.name))


def loading(visit: Visit) -> Response:
    """List the data-loading plans."""
    return visit.show("data_loading.html", found=Loading(visit.home, visit.by).list())


def remove_loading(visit: Visit) -> Response:
    """Forget a data-loading plan that no set uses."""
    name = visit.field("name")
    Loading(visit.home, visit.by).remove(name)
    return visit.go("/data/loading", said=t("data.loading_removed", name=name))


def _row(dataset: Dataset, uses: tuple[Use, ...]) -> Row:
    return Row(dataset, uses[0].last_at if uses else None, sum(use.running for use in uses))


def _texts(dataset: Dataset) -> Iterator[str]:
    yield from (dataset.name, dataset.description, *dataset.tags)
    yield from (column.name for column in dataset.columns)


AREA: Final = Area(
    "data",
    (
        get("/data", Role.VIEWER, listing),
        get("/data/set/{dataset_id}", Role.VIEWER, show),
        post("/data/set/{dataset_id}/check", Role.MANAGER, check),
        get("/data/set/{dataset_id}/remove", Role.MANAGER, remove_form),
        post("/data/set/{dataset_id}/remove", Role.MANAGER, remove),
        post("/data/set/{dataset_id}/keep", Role.MANAGER, keep),
        get("/data/loading", Role.VIEWER, loading),
        post("/data/loading/remove", Role.MANAGER, remove_loading),
    ),
    icon="data",
)
