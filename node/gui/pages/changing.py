"""Change what is said about a data set: labels, options, whether it is watched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from pydantic import TypeAdapter
from starlette.responses import Response

from common.errors import WarrenError
from node.dataset import Dataset
from node.gui import answers, errands
from node.gui.area import Area, get, post
from node.gui.errands import Typed
from node.gui.pages.sets import OPTION_BYTES, ended_job, sent, tell, the_set, waiting, wrong_labels
from node.gui.people import Role
from node.gui.texts import t
from node.gui.visit import Visit

_OPTIONS: Final[TypeAdapter[dict[str, Typed]]] = TypeAdapter(dict[str, Typed])


def form(visit: Visit) -> Response:
    """Show the form, with what was typed if the change came to nothing."""
    dataset, job = the_set(visit), ended_job(visit, visit.query("job"))
    if job is None or job.error is None:
        return _form(visit, dataset, _labels(dataset), {})
    labels = {name: text for name, text in job.form.items() if name != "options"}
    return _form(
        visit, dataset, labels, _OPTIONS.validate_json(job.form["options"]), trouble=job.error, status=422
    )


def change(visit: Visit) -> Response:
    """Look into the set again with other labels or options; that may take a while."""
    dataset = the_set(visit)
    asked = visit.site.runner.options(dataset.data_type)
    labels = {name: visit.field(name) for name in ("name", "tags", "description", "watched")}
    typed = answers.from_form(asked, visit.form)
    if more := visit.field("more"):
        return _form(visit, dataset, labels, typed, more=more)
    told = visit.site.runner.do(
        errands.ReadOptions(data_type=dataset.data_type, typed=typed), errands.Told, by=visit.by
    )
    problems = told.problems | wrong_labels(visit, labels, of=dataset.dataset_id)
    if problems:
        return _form(visit, dataset, labels, typed, problems=problems, status=422)
    before = {one.name: dataset.parameters.get(one.name, one.default) for one in asked}
    options = {name: value for name, value in told.values.items() if value != before[name]}
    errand = errands.Change(
        which=dataset.dataset_id,
        name=labels["name"],
        tags=tuple(labels["tags"].split(",")),
        description=labels["description"],
        options=options or None,
        watched=bool(labels["watched"]),
    )

    def done(made: errands.Registered) -> str:
        tell(visit, t("data.changed_another" if made.is_another else "data.changed", name=made.name))
        return f"/data/set/{made.dataset_id}"

    back = f"/data/set/{dataset.dataset_id}/edit"
    kept = labels | {"options": json.dumps(typed)}
    key = sent(visit, errand, errands.Registered, what="change", back=back, then=done, form=kept)
    return waiting(visit, key)


def _labels(dataset: Dataset) -> dict[str, str]:
    return {
        "name": dataset.name,
        "tags": ", ".join(dataset.tags),
        "description": dataset.description,
        "watched": "yes" if dataset.watched else "",
    }


def _form(
    visit: Visit,
    dataset: Dataset,
    labels: Mapping[str, str],
    typed: Mapping[str, Typed],
    *,
    problems: Mapping[str, str] | None = None,
    more: str = "",
    trouble: WarrenError | None = None,
    status: int = 200,
) -> Response:
    asked = visit.site.runner.options(dataset.data_type)
    return visit.show(
        "data_edit.html",
        status=status,
        dataset=dataset,
        labels=labels,
        problems=problems or {},
        fields=answers.fields(asked, typed, dataset.parameters, problems or {}, more),
        trouble=trouble,
    )


AREA: Final = Area(
    "changing",
    (
        get("/data/set/{dataset_id}/edit", Role.MANAGER, form),
        post("/data/set/{dataset_id}/edit", Role.MANAGER, change, body_bytes=OPTION_BYTES),
    ),
)
