"""Add a data set, step by step: what it is, options, a dry run, its first samples, labels, and all of it once more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from common.datasets.families import DATA_TYPES
from common.errors import WarrenError
from node.gui import answers, errands
from node.gui.area import Answer, Area, get, post
from node.gui.drafts import Draft
from node.gui.errands import Subject
from node.gui.pages.seeing import show_samples
from node.gui.pages.sets import OPTION_BYTES, ended_job, sent, tell, waiting, wrong_labels
from node.gui.people import Role
from node.gui.texts import t
from node.gui.visit import Visit
from node.steward.folders import Folders
from node.steward.loading import Loading

STEPS: Final = ("what", "options", "check", "samples", "labels", "summary")
"""The steps, in their order; each is a page of its own."""

Step = Callable[[Visit, Draft], Response]


def what(visit: Visit, draft: Draft) -> Response:
    """Ask which family it is of, and whether a data-loading plan says how it is read."""
    return _page(visit, draft, "what", types=DATA_TYPES, plans=Loading(visit.home, visit.by).list())


def take_what(visit: Visit, draft: Draft) -> Response:
    """Take family and data-loading plan; with others than before, what was typed for options is gone."""
    name = visit.field("loading")
    plan = Loading(visit.home, visit.by).find(name) if name else None
    data_type = plan.data_type if plan else visit.field("type")
    if data_type not in DATA_TYPES:
        problem = t("adding.type_missing")
        plans = Loading(visit.home, visit.by).list()
        return _page(visit, draft, "what", status=422, problem=problem, types=DATA_TYPES, plans=plans)
    if (data_type, name) != (draft.data_type, draft.loading) or not draft.options:
        taken = dict(plan.options) if plan else {}
        new = {"data_type": data_type, "loading": name, "typed": {}, "options": taken, "checked": ""}
        draft = draft.model_copy(update=new)
        visit.site.drafts.keep(draft)
    return _next(visit, draft, "options")


def options(visit: Visit, draft: Draft) -> Response:
    """Ask for the options of the family."""
    return _options(visit, draft, draft.typed, {})


def take_options(visit: Visit, draft: Draft) -> Response:
    """Take the options, and begin the dry run if all are right."""
    asked = visit.site.runner.options(draft.data_type)
    typed = answers.from_form(asked, visit.form)
    draft = draft.model_copy(update={"typed": typed})
    visit.site.drafts.keep(draft)
    if more := visit.field("more"):
        return _options(visit, draft, typed, {}, more=more)
    told = visit.site.runner.do(
        errands.ReadOptions(data_type=draft.data_type, typed=typed), errands.Told, by=visit.by
    )
    if told.problems:
        return _options(visit, draft, typed, told.problems, status=422)
    plan = Loading(visit.home, visit.by).find(draft.loading).options if draft.loading else {}
    kept = answers.said(asked, told.values)
    changed = {name: value for name, value in told.values.items() if name in plan and value != plan[name]}
    return _begin_check(visit, draft.model_copy(update={"options": kept | changed}))


def check(visit: Visit, draft: Draft) -> Response:
    """Show what the dry run found."""
    job = ended_job(visit, draft.checked)
    found = job.answer if job is not None and isinstance(job.answer, errands.Looked) else None
    refused = found is not None and bool(found.inspection.broken) and draft.options.get("on_broken") != "skip"
    trouble = job.error if job is not None else None
    return _page(visit, draft, "check", found=found, refused=refused, trouble=trouble)


def take_check(visit: Visit, draft: Draft) -> Response:
    """Read all of it again; with `skip`, leave out what is broken."""
    if visit.field("skip"):
        draft = draft.model_copy(
            update={
                "options": draft.options | {"on_broken": "skip"},
                "typed": draft.typed | {"on_broken": "skip"},
            }
        )
        visit.site.drafts.keep(draft)
        return _next(visit, draft, "check")
    return _begin_check(visit, draft)


def samples(visit: Visit, draft: Draft) -> Response:
    """Show the page that asks for the first samples at once."""
    return _page(visit, draft, "samples")


def take_samples(visit: Visit, draft: Draft) -> Response:
    """Go on."""
    return _next(visit, draft, "labels")


def samples_now(visit: Visit) -> Response:
    """Show the first samples."""
    draft = _draft(visit)
    job, subject = ended_job(visit, draft.checked), _subject(visit, draft)
    if job is not None and isinstance(job.answer, errands.Looked):
        unread = {"broken": list(job.answer.inspection.broken)}
        subject = subject.model_copy(update={"options": subject.options | unread})
    return show_samples(visit, subject, dataset=None)


def labels(visit: Visit, draft: Draft) -> Response:
    """Ask for name, tags and description."""
    return _page(visit, draft, "labels", problems={})


def take_labels(visit: Visit, draft: Draft) -> Response:
    """Take them."""
    texts = {name: visit.field(name) for name in ("name", "tags", "description")}
    draft = draft.model_copy(update={**texts, "watched": bool(visit.field("watched"))})
    visit.site.drafts.keep(draft)
    problems = wrong_labels(visit, texts)
    if problems:
        return _page(visit, draft, "labels", status=422, problems=problems)
    return _next(visit, draft, "summary")


def summary(visit: Visit, draft: Draft) -> Response:
    """Show all of it once more."""
    job = ended_job(visit, visit.query("job"))
    missing = [step for step in ("what", "labels") if not _is_done(draft, step)]
    return _page(visit, draft, "summary", trouble=job.error if job else None, missing=missing)


def take_summary(visit: Visit, draft: Draft) -> Response:
    """Register it."""
    errand = errands.Register(
        subject=_subject(visit, draft),
        name=draft.name,
        tags=tuple(draft.tags.split(",")),
        description=draft.description,
        loading=draft.loading or None,
        watched=draft.watched,
    )

    def done(made: errands.Registered) -> str:
        visit.site.drafts.forget(draft.draft_id)
        tell(visit, t("adding.registered", name=made.name))
        return f"/data/set/{made.dataset_id}"

    back = _path(draft, "summary")
    key = sent(visit, errand, errands.Registered, what="register", back=back, then=done)
    return waiting(visit, key)


def forget(visit: Visit) -> Response:
    """Forget a draft."""
    visit.site.drafts.forget(_draft(visit).draft_id)
    return visit.go("/data", said=t("adding.forgotten"))


def _begin_check(visit: Visit, draft: Draft) -> Response:
    errand, path = errands.Look(subject=_subject(visit, draft)), _path(draft, "check")
    key = sent(visit, errand, errands.Looked, what="look", back=path, then=lambda _: path)
    visit.site.drafts.keep(draft.model_copy(update={"checked": key}))
    return waiting(visit, key)


def _subject(visit: Visit, draft: Draft) -> Subject:
    """Return what is looked at, if it still lies in a data folder.

    Raises:
        OutsideDataFoldersError: If it does not.
    """
    return Subject(
        path=Folders(visit.home).permit(draft.path), data_type=draft.data_type, options=draft.options
    )


def _options(
    visit: Visit,
    draft: Draft,
    typed: Mapping[str, errands.Typed],
    problems: Mapping[str, str],
    *,
    more: str = "",
    status: int = 200,
) -> Response:
    asked = visit.site.runner.options(draft.data_type)
    made = answers.fields(asked, typed, draft.options, problems, more)
    return _page(visit, draft, "options", status=status, fields=made)


def _page(
    visit: Visit,
    draft: Draft,
    step: str,
    *,
    status: int = 200,
    trouble: WarrenError | None = None,
    problem: str = "",
    **facts: object,
) -> Response:
    done = {name for name in STEPS if _is_done(draft, name)}
    shown = {
        "draft": draft,
        "step": step,
        "steps": STEPS,
        "done": done,
        "trouble": trouble,
        "problem": problem,
    }
    return visit.show(f"data_add_{step}.html", status=status, **shown, **facts)


def _is_done(draft: Draft, step: str) -> bool:
    """Tell whether a step has been taken."""
    return {
        "what": bool(draft.data_type),
        "options": bool(draft.typed),
        "check": bool(draft.checked),
        "samples": bool(draft.name),
        "labels": bool(draft.name and draft.tags and draft.description),
        "summary": False,
    }[step]


def _path(draft: Draft, step: str) -> str:
    return f"/data/add/{draft.draft_id}/{step}"


def _next(visit: Visit, draft: Draft, step: str) -> Response:
    return visit.go(_path(draft, step))


def _draft(visit: Visit) -> Draft:
    draft = visit.site.drafts.find(visit.path("draft_id"), visit.known.person_id)
    if draft is None:
        raise HTTPException(404)
    return draft


def _of(steps: Mapping[str, Step]) -> Answer:
    def answer(visit: Visit) -> Response:
        """Take the step in the path; without knowing what it is, only the first one."""
        draft, step = _draft(visit), visit.path("step")
        if step not in steps:
            raise HTTPException(404)
        if step != "what" and not draft.data_type:
            return _next(visit, draft, "what")
        return steps[step](visit, draft)

    return answer


_SHOW: Final[dict[str, Step]] = {
    "what": what,
    "options": options,
    "check": check,
    "samples": samples,
    "labels": labels,
    "summary": summary,
}
_TAKE: Final[dict[str, Step]] = {
    "what": take_what,
    "options": take_options,
    "check": take_check,
    "samples": take_samples,
    "labels": take_labels,
    "summary": take_summary,
}

AREA: Final = Area(
    "adding",
    (
        get("/data/add/{draft_id}/samples/now", Role.MANAGER, samples_now),
        post("/data/add/{draft_id}/forget", Role.MANAGER, forget),
        get("/data/add/{draft_id}/{step}", Role.MANAGER, _of(_SHOW)),
        post("/data/add/{draft_id}/{step}", Role.MANAGER, _of(_TAKE), body_bytes=OPTION_BYTES),
    ),
)
