"""The pages about plans, activity and the audit log: what they show, what they decide, and what they withstand."""

import csv
import html
import io
import math
import re
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audit.glance import glance
from common.audit.log import AuditLog
from common.audit.record import Action, Entry
from common.audit.selection import Selection, select
from common.audit.verify import read_records, verify
from common.errors import NoteTooLongError
from common.ids import DatasetId, Digest, ExperimentId, PartyId, RunId, TaskId, new_uuid
from common.messages import Assignment, LossPoint, PayloadManifest, PlanState, TrainRequest
from common.training_args import TrainingArgs
from common.training_plans.source import plan_hash
from node.approval import Approvals
from node.gui.curves import HEIGHT, WIDTH, curve_of
from node.gui.people import Role
from node.gui.source import MARKED_LENGTH, diff_lines, source_lines
from node.journal import Journal
from node.plan_report import difference
from node.registry import Registry
from node.steward.audits import Audits
from node.steward.plans import NOTE_LENGTH, Plans
from node.steward.tasks import Tasks
from node.stops import StopWishes
from node.task_events import Task
from tests.support.nodes import ADD_ONE
from tests.support.page import Page, make_page_home

OTHER = ADD_ONE.replace("lr=1.0", "lr=0.5")
NASTY = "<script>alert(1)</script>\u202e\x1b[31m'\"&"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}\\u{1b}[31m"


@pytest.fixture
def home(tmp_path):
    return make_page_home(tmp_path)


@pytest.fixture
def page(home):
    page = Page(home)
    yield page
    page.close()


@pytest.fixture
def manager(page):
    return page.browser(Role.MANAGER)


def asked_for(home, source, *, name="AddOne", by="lab", note=""):
    """Let a researcher ask for a plan; return its hash."""
    approvals = Approvals(home.registry_path)
    known = approvals.request(
        name=name, announced=plan_hash(source), source=source, by=by, note=note
    ).plan_hash
    approvals.close()
    return known


def plan_of(home, known):
    return Plans(home, "the test").read(known).plan


def limits(*rows):
    """Return the fields of a form with these limits."""
    return dict(zip(("argument", "operator", "bound"), map(list, zip(*rows, strict=True)), strict=True))


def begun(home, *, plan_name="AddOne", losses=(), running=True):
    """Put a task into the journal and the audit log, as the agent does; return its id."""
    registry = Registry(home.registry_path)
    dataset = registry.find("trial").dataset_id
    registry.close()
    node = home.connection().party
    task = Task(
        task_id=TaskId(new_uuid()),
        experiment_id=ExperimentId(new_uuid()),
        run_id=RunId(new_uuid()),
        round=3,
        researcher=PartyId("lab"),
        model=Digest("c" * 64),
        deadline=None,
        received_at=time.time(),
    )
    request = TrainRequest(
        sender=task.researcher,
        recipients=(node,),
        experiment_id=task.experiment_id,
        run_id=task.run_id,
        round=task.round,
        assignments=(Assignment(node=node, task_id=task.task_id, dataset_id=dataset),),
        plan_name=plan_name,
        plan_hash=plan_hash(ADD_ONE),
        source=ADD_ONE,
        model_args={"<b>": NASTY},
        training_args=TrainingArgs(num_updates=100, optimizer_args={"lr": 0.25}),
        seed=1,
        model=PayloadManifest(sha256="c" * 64, size_bytes=400, inline=True),
    )
    journal = Journal(home.journal_path)
    journal.receive(task, request)
    if running:
        journal.begin(task.task_id)
    journal.note_losses(task.task_id, tuple(losses))
    journal.close()
    return task.task_id


def ended(party, action, **more):
    """Return what the audit log says of a task that ended."""
    fields = {
        "actor": "lyon",
        "experiment_id": ExperimentId(new_uuid()),
        "run_id": RunId(new_uuid()),
        "round": 0,
        "task_id": TaskId(new_uuid()),
        "plan_name": "AddOne",
        "dataset_id": DatasetId(new_uuid()),
        "parties": (PartyId(party),),
    }
    return Entry(action=action, **(fields | more))


def curve(*losses):
    return tuple(
        LossPoint(iteration=10 * number, epoch=0, samples=number, loss=loss)
        for number, loss in enumerate(losses, start=1)
    )


def text_of(lines):
    """Return what a person reads of marked lines."""
    return html.unescape(re.sub(r"<[^>]*>", "", "\n".join(lines)))


# Plans.


def test_a_plan_is_read_decided_and_taken_back(home, page, manager):
    changed = ADD_ONE.replace("lr=1.0", "lr=0.1")
    known = asked_for(home, changed, note="slower")
    queue = manager.get("/plans").text
    shown = manager.get(f"/plans/{known}").text

    assert queue.index("waits</span>") < queue.index("approved</span>")
    assert "slower" in queue
    assert "slower" in shown
    assert re.search(r'class="removed"><b>-</b><del>[^<]*lr=1\.0', shown)
    assert re.search(r'class="added"><b>\+</b><ins>[^<]*lr=0\.1', shown)
    assert "Imports" in shown
    assert '<span class="keyword">class</span>' in shown

    form = {
        "note": "fine",
        **limits(("epochs", "<=", "5"), ("", "<=", ""), ("optimizer_args.lr", "<=", "0.1")),
    }
    answer = manager.post(f"/plans/{known}/approve", form)
    plan = plan_of(home, known)
    assert (303, f"/plans/{known}") == (answer.status_code, answer.headers["location"])
    assert (PlanState.APPROVED, "manager (web)", "fine", ["epochs<=5", "optimizer_args.lr<=0.1"]) == (
        plan.state,
        plan.decided_by,
        plan.decision_note,
        list(map(str, plan.limits)),
    )
    assert "Take the approval back" in manager.get(f"/plans/{known}").text

    manager.post(f"/plans/{known}/reject", {"note": "not any more"})
    assert PlanState.REJECTED is plan_of(home, known).state
    told = manager.get("/plans/history").text
    assert told.index("not any more") < told.index("fine") < told.index("slower")
    assert [
        ("person manager (web)", "fine; epochs<=5, optimizer_args.lr<=0.1"),
        ("person manager (web)", "not any more"),
    ] == [
        (one.actor, one.note)
        for one in read_records(home.audit_path)
        if one.action in {Action.PLAN_APPROVED, Action.PLAN_REJECTED}
    ]


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"note": "kept", **limits(("colour", "<=", "5"))}, "WRN-509"),
        ({"note": "kept", **limits(("epochs", "<=", "many"))}, "WRN-509"),
        ({"note": "kept", **limits(("epochs", "<=", ""))}, "WRN-509"),
        ({"note": "kept", **limits(("epochs", "<script>", "5"))}, "WRN-509"),
        ({"note": "kept" + NASTY * NOTE_LENGTH}, "WRN-512"),
    ],
    ids=["no argument", "no number", "nothing", "no operator", "huge note"],
)
def test_what_is_wrong_is_said_and_nothing_typed_is_lost(form, code, home, manager):
    known = asked_for(home, OTHER)
    answer = manager.post(f"/plans/{known}/approve", form)

    assert (422, True) == (answer.status_code, code in answer.text)
    assert "kept" in answer.text
    assert "<script>" not in answer.text
    assert all(f'value="{value}"' in answer.text for value in form.get("argument", ()))
    assert PlanState.PENDING is plan_of(home, known).state


def test_more_rows_for_limits_decide_nothing(home, manager):
    known = asked_for(home, OTHER)
    answer = manager.post(
        f"/plans/{known}/approve", {"do": "more", "note": "half a", **limits(("epochs", ">=", "2"))}
    )

    assert (200, 3) == (answer.status_code, answer.text.count('name="argument"'))
    assert "half a" in answer.text
    assert 'value="epochs"' in answer.text
    assert '<option value="&gt;=" selected>' in answer.text
    assert PlanState.PENDING is plan_of(home, known).state


def test_a_form_whose_rows_are_torn_is_refused(home, manager):
    known = asked_for(home, OTHER)

    assert 400 == manager.post(f"/plans/{known}/approve", {"argument": ["epochs"], "bound": []}).status_code


@pytest.mark.parametrize("which", ["x", "%3Cscript%3E", "0" * 64, "%00", "..%2e", "%F0%9F%92%A9"])
def test_ids_that_are_none_are_said_to_be_none(which, manager):
    for path in (f"/plans/{which}", f"/activity/{which}", f"/activity/{which}/cancel"):
        answer = manager.get(path)
        assert answer.status_code in {404, 422}
        assert "<script>" not in answer.text
    for path in (f"/plans/{which}/approve", f"/plans/{which}/reject", f"/activity/{which}/cancel"):
        assert manager.post(path).status_code in {404, 422}


def test_a_plan_of_the_node_is_approved_from_a_file_or_from_text(home, manager):
    class_only = "class Mine:\n    rate = {}\n"
    by_file = manager.post("/plans/new", files={"file": ("mine.py", class_only.format(1).encode())})
    by_text = manager.post(
        "/plans/new", {"source": class_only.format(2).replace("\n", "\r\n"), "note": "ours"}
    )
    refused = [
        manager.post("/plans/new", {"source": "not ( python <script>", "note": "kept"}),
        manager.post("/plans/new", {"source": "x = 1", "note": "kept"}),
        manager.post("/plans/new", {"note": "kept"}, files={"file": ("mine.py", b"\xff\xfe")}),
        manager.post("/plans/new", {"source": "x" * 140_000, "note": "kept"}),
    ]

    assert [303, 303] == [by_file.status_code, by_text.status_code]
    assert {PlanState.APPROVED} == {
        plan_of(home, plan_hash(class_only.format(rate))).state for rate in (1, 2)
    }
    assert [(422, True, True)] * 4 == [
        (one.status_code, "WRN-502" in one.text, "kept" in one.text) for one in refused
    ]
    assert "not ( python &lt;script&gt;" in refused[0].text


def test_names_and_notes_of_others_are_shown_as_text(home, manager):
    known = asked_for(home, f"class P:\n    x = '''{NASTY}'''\n", name=NASTY, note=NASTY)
    home.audit().append(ended("lab", Action.TASK_FAILED, plan_name=NASTY, note=NASTY, code="WRN-504"))
    begun(home, plan_name=NASTY)
    task = begun(home, plan_name=NASTY)

    for path in ("/plans", f"/plans/{known}", "/plans/history", "/activity", f"/activity/{task}", "/audit"):
        shown = manager.get(path).text
        assert "<script>alert" not in shown, path
        assert not {"\u202e", "\x1b"} & set(shown), path
        assert ESCAPED in shown, path
    assert '<mark class="hidden">\\u{202e}\\u{1b}</mark>' in manager.get(f"/plans/{known}").text


def test_plans_are_found_by_name_state_and_note(home, manager):
    asked_for(home, OTHER, name="Heart", note="for the heart study")
    asked_for(home, OTHER.replace("lr=0.5", "lr=0.6"), name="Lung")

    assert "Lung" not in manager.get("/plans?search=HEART+study").text
    assert "Lung" not in manager.get("/plans?state=approved").text
    assert "Nothing fits" in manager.get("/plans?state=rejected").text
    assert "Heart" not in manager.get("/plans/history?search=lung").text


def test_a_viewer_is_offered_no_decision(home, page):
    viewer, task = page.browser(Role.VIEWER), begun(home)
    known = asked_for(home, OTHER)
    shown = "".join(viewer.get(path).text for path in (f"/plans/{known}", "/activity", f"/activity/{task}"))

    assert "/approve" not in shown
    assert "/cancel" not in shown


def test_a_note_that_no_message_can_carry_is_refused_by_the_core(home):
    with pytest.raises(NoteTooLongError):
        Plans(home, "anna").reject(plan_hash(ADD_ONE), note="x" * (NOTE_LENGTH + 1))
    assert PlanState.APPROVED is plan_of(home, plan_hash(ADD_ONE)).state


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab'\"\\#(){}:=\n\r\t\ufeff\u202e\u200b<&\x00 fdecls@0.", max_size=80))
def test_every_character_of_a_source_is_shown_once(source):
    seen = text_of(source_lines(source))
    hidden = {one: f"\\u{{{ord(one):x}}}" for one in "\r\ufeff\u202e\u200b\x00"}
    expected = "".join(hidden.get(one, one) for one in source.removesuffix("\n"))

    assert expected == seen


def test_a_source_that_is_made_to_be_slow_is_shown_as_it_is():
    for slow in ("'" + "\\N{" * 20_000, "(" * (MARKED_LENGTH + 1)):
        assert (slow, False) == (text_of(source_lines(slow)), "<" in "".join(source_lines(slow)))


def test_a_difference_of_very_long_sources_is_all_of_both():
    before, after = ("\n".join(str(n * factor % 499) for n in range(3000)) for factor in (3, 7))
    lines = difference(before, after, before_name="a", after_name="b")

    assert Counter(removed=3000, added=3000, place=1, heading=2) == Counter(
        one.kind for one in diff_lines(lines)
    )
    assert [] == difference(before, before, before_name="a", after_name="b")


def test_lines_that_look_like_headings_are_changes():
    lines = list(diff_lines(difference("-- x\n", "++ y\n", before_name="a", after_name="b")))

    assert ["heading", "heading", "place", "removed", "added"] == [one.kind for one in lines]


# Activity.


def test_a_running_task_shows_how_far_it_is(home, manager):
    task = begun(home, losses=curve(2.0, None, 1.0))
    listed, shown = manager.get("/activity").text, manager.get(f"/activity/{task}").text

    assert f"/activity/{task}" in listed
    assert '<progress value="0.3"' in listed
    assert "30 %" in shown
    assert 2 == shown.count("<polyline")
    assert "From 2 to 1, least 1, over 30 steps. 1 points are no numbers" in shown
    assert "optimizer_args = {&#39;lr&#39;: 0.25}" in shown
    assert "fedprox" not in shown
    assert "Nothing left the node" in shown
    assert f"/activity/{task}/cancel" in shown


def test_a_task_is_stopped_after_a_question(home, manager):
    task = begun(home)
    question = manager.get(f"/activity/{task}/cancel").text
    answer = manager.post(f"/activity/{task}/cancel")
    wishes = StopWishes(home.registry_path)
    wanted = wishes.open()
    wishes.close()

    assert "Stop this task?" in question
    assert (303, (task,)) == (answer.status_code, wanted)
    assert "is being stopped" in manager.get("/activity").text
    assert [("person manager (web)", task)] == [
        (one.actor, one.task_id)
        for one in read_records(home.audit_path)
        if one.action is Action.TASKS_CANCELLED
    ]


def test_a_task_that_is_done_with_is_not_stopped(home, manager):
    done = ended("lab", Action.UPDATE_RELEASED, bytes=5, digest=Digest("a" * 64))
    home.audit().append(done)

    assert "WRN-612" in manager.get(f"/activity/{done.task_id}/cancel").text
    assert 422 == manager.post(f"/activity/{done.task_id}/cancel").status_code


def test_past_tasks_are_found_by_experiment_researcher_outcome_and_data_set(home, manager):
    registry = Registry(home.registry_path)
    here = registry.find("trial").dataset_id
    registry.close()
    lab = ended("lab", Action.UPDATE_RELEASED, bytes=2048, count=3, digest=Digest("a" * 64), dataset_id=here)
    stop = ended("other", Action.TASK_FAILED, outcome="failed", code="WRN-605")
    fail = ended("other", Action.TASK_FAILED, outcome="failed", code="WRN-504")
    home.audit().append(ended("lab", Action.TASK_ASKED, task_id=lab.task_id, actor="lab"), lab, stop, fail)

    def found(query):
        shown = manager.get(f"/activity?{query}").text
        return [one for one in (lab, stop, fail) if f"/activity/{one.task_id}" in shown]

    assert [lab, stop, fail] == found("")
    assert [lab] == found("researcher=LAB") == found("outcome=trained") == found(f"dataset={here}")
    assert [stop] == found("outcome=stopped") == found(f"search={stop.experiment_id}")
    assert [stop, fail] == found("outcome=failed")
    assert [] == found("dataset=%22x") == found("search=%3Cscript%3E")
    assert 400 == manager.get("/activity?outcome=x").status_code


def test_what_left_is_shown_with_size_digest_and_who_got_it(home, manager):
    one = ended("lab", Action.UPDATE_RELEASED, bytes=2048, count=3, digest=Digest("a" * 64))
    same = ended("lab", Action.UPDATE_RELEASED, bytes=1024, count=4, dataset_id=one.dataset_id)
    home.audit().append(one, same, Entry(action=Action.DATASETS_DESCRIBED, actor="lab", count=1))
    shown, of_task = manager.get("/activity/left").text, manager.get(f"/activity/{one.task_id}").text

    assert re.search(r">2</td><td[^>]*>3\.0 KiB</td><td[^>]*>7</td>", shown)
    assert "descriptions of data sets" in shown
    assert "a" * 64 in of_task
    assert "2.0 KiB" in of_task
    for nothing in ("researcher=nobody", "dataset=none", "search=nothing"):
        assert f"/activity/{same.task_id}" not in manager.get(f"/activity/left?{nothing}").text, nothing
    assert f"/activity/{same.task_id}" in manager.get(f"/activity/left?dataset={same.dataset_id}").text


@given(st.lists(st.one_of(st.none(), st.floats(-1e30, 1e30)), max_size=30))
def test_a_curve_stays_in_its_box(losses):
    drawn = curve_of(curve(*losses))
    numbers = [loss for loss in losses if loss is not None]

    assert (drawn is None) == (not numbers)
    if drawn is not None:
        points = [tuple(map(float, one.split(","))) for line in drawn.lines for one in line.split(" ")]
        assert len(numbers) == len(points)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
        assert all(math.isfinite(tick.at) for tick in (*drawn.across, *drawn.up))


# The audit log.


def filled(folder, count=60):
    """Write a log of several files, with notes that look like records."""
    log = AuditLog(folder / "audit", PartyId("lyon"), file_bytes=4000)
    notes = ['"action":"plan_approved"', 'lab\\"', "Äther", NASTY, "plan_name", None]
    actions = [Action.UPDATE_RELEASED, Action.TASK_FAILED, Action.DATASETS_DESCRIBED]
    for number in range(count):
        log.append(
            ended(
                "lab" if number % 2 else "other",
                actions[number % 3],
                actor=f"person {'Anna' if number % 5 else NASTY}",
                note=notes[number % len(notes)],
                outcome="done" if number % 4 else "failed",
            ),
            durable=False,
        )
    return folder / "audit"


@pytest.fixture(scope="module")
def long_log(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("log"))


ANY_TEXT = st.sampled_from(
    ["anna", "LAB", "la", '"', "\\", "äther", "ther", "plan_name", "note", "<script>", "\x1b", ",", "01", "{"]
)


@settings(max_examples=150, deadline=None)
@given(
    wanted=st.builds(
        Selection,
        actor=st.none() | ANY_TEXT,
        party=st.none() | ANY_TEXT,
        about=st.none() | ANY_TEXT,
        actions=st.none()
        | st.frozensets(st.sampled_from([Action.LOG_BEGUN, Action.UPDATE_RELEASED, Action.TASK_FAILED])),
        outcome=st.none() | st.sampled_from(["done", "failed", "refused"]),
    ),
    most=st.integers(1, 70),
    skipped=st.integers(0, 70),
)
def test_a_glance_finds_what_a_reading_of_the_whole_log_finds(long_log, wanted, most, skipped):
    assert select(read_records(long_log), wanted, most=most, skipped=skipped) == glance(
        long_log, wanted, most=most, skipped=skipped
    )


def test_a_glance_finds_what_was_in_a_time(long_log):
    records = list(read_records(long_log))
    wanted = Selection(since=records[10].at, until=records[20].at)

    assert select(records, wanted, most=99) == glance(long_log, wanted, most=99)


def test_the_log_is_shown_by_pages_and_filters(home, manager):
    home.audit().append(
        *(Entry(action=Action.TASK_ASKED, actor="lab", note=f"entry {n}") for n in range(120))
    )
    first, last = manager.get("/audit").text, manager.get("/audit?page=999").text

    assert "entry 119<" in first
    assert "entry 69<" not in first
    assert "log begun" in last
    assert "Page 3 of 3, 122 in all" in last
    assert "entry 7<" in manager.get("/audit?about=ENTRY+7&actor=LA&action=task_asked&outcome=done").text
    for nothing in ("until=2001-01-01T00:00", "since=2100-01-01T00:00", "outcome=failed", "actor=nobody",
                    "about=nothing", "action=run_ended"):  # fmt: skip
        assert "No record fits" in manager.get(f"/audit?{nothing}").text, nothing
    misread = manager.get("/audit?since=yesterday")
    assert (200, True) == (misread.status_code, "This is no time" in misread.text)
    assert 'value="yesterday"' in misread.text
    assert {400} == {manager.get(f"/audit?{query}").status_code for query in ("action=x", "outcome=x")}


def test_the_chain_is_checked_on_demand(home, manager):
    home.audit().append(*(Entry(action=Action.TASK_ASKED, actor="lab", note=f"n{n}") for n in range(3)))
    fine = manager.get("/audit/verify").text
    (file,) = home.audit_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b'"note":"n1"', b'"note":"n9"'))
    broken, export = manager.get("/audit/verify"), manager.post("/audit/lines")

    assert "5 records" in fine
    assert re.search(r"\b0{15}4:[0-9a-f]{64}\b", fine)
    assert (200, True) == (broken.status_code, "record 3 was changed" in broken.text)
    assert (422, True) == (export.status_code, "record 3 was changed" in export.text)
    assert "n9" in manager.get("/audit").text


def test_a_log_that_cannot_be_read_is_said_so(home, manager):
    home.audit().append(Entry(action=Action.TASK_ASKED, actor="lab"))
    (file,) = home.audit_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes() + b"{rubbish}\n")

    assert {422} == {manager.get(path).status_code for path in ("/audit",)}
    assert "a record cannot be read" in manager.get("/audit").text


def test_a_copy_can_be_checked_and_is_recorded(home, page, manager, tmp_path):
    home.audit().append(Entry(action=Action.TASK_ASKED, actor="lab", note=NASTY))
    answer = page.browser(Role.VIEWER).post("/audit/lines")
    (tmp_path / "copy.jsonl").write_bytes(answer.content)

    assert 'attachment; filename="audit-lyon.jsonl"' == answer.headers["content-disposition"]
    assert 4 == verify(tmp_path / "copy.jsonl").records
    *_, last = read_records(home.audit_path)
    assert (Action.AUDIT_EXPORTED, "person viewer (web)", 4) == (last.action, last.actor, last.count)


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1d1"])
def test_no_cell_of_a_table_is_a_formula(formula, home, manager):
    home.audit().append(
        Entry(action=Action.TASK_ASKED, actor="lab", note=formula),
        Entry(action=Action.TASK_ASKED, actor="lab", note='two\r\nlines, "quoted"'),
        Entry(action=Action.TASK_FAILED, actor="lab"),
    )
    empty = dict.fromkeys(("actor", "outcome", "about", "since", "until"), "")
    answer = manager.post("/audit/table", {**empty, "action": "task_asked"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))

    assert [f"'{formula}", 'two\\u{d}\\u{a}lines, "quoted"'] == [row["note"] for row in rows]
    assert 400 == manager.post("/audit/table", {**empty, "action": "", "since": "x"}).status_code


def test_a_page_of_a_long_log_takes_little_work(home):
    """Five pages of ten thousand records; reading all of them with care takes as long for each. Time of this process alone."""
    home.audit().append(
        *(Entry(action=Action.TASK_ASKED, actor="lab", note=f"{n}") for n in range(10_000)), durable=False
    )
    audits = Audits(home, "anna")
    begun_at = time.process_time()
    for wanted in (Selection(), Selection(actor="lab"), Selection(about="999"), Selection(outcome="done")):
        audits.look(wanted, most=50, skipped=5000)
    Tasks(home, "anna").past(50)

    assert time.process_time() - begun_at < 2
