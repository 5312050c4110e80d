"""A data manager shares data on the web page: browse, dry run, look, name, register, change, check, remove."""

import logging
import re
import threading

import pytest

from common.audit.record import Action, Entry
from common.audit.verify import read_records
from common.errors import LookEndedError
from common.ids import new_uuid
from node.gui import errands, runner
from node.gui.people import Role
from node.registry import Registry
from node.steward.datasets import Datasets, NewDataset
from tests.support.page import Page, make_page_home
from tests.support.volumes import write_folder

pytestmark = pytest.mark.usefixtures("forked_processes")

PATIENT = "Meyer_Hans"
HOSTILE = "<img src=x onerror=alert(1)>\"'&.csv"
DEADLINE_S = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with a data folder, in which some sets wait to be registered."""
    folder = tmp_path_factory.mktemp("pages")
    home = make_page_home(folder)
    data = folder / "data"
    (data / "many").mkdir(parents=True)
    rows = "".join(f"{40 + row % 30},{'' if row % 10 == 0 else row * 1.5},{row % 2}\n" for row in range(60))
    (data / "heart.csv").write_text("age,chol,num\n" + rows)
    write_folder(data / "brains", subjects=3)
    (data / "brains" / "sub-2" / "label" / "mask.nii.gz").unlink()
    (data / "brains" / "sub-3" / "T1" / "t1.nii.gz").write_bytes(b"torn")
    (data / HOSTILE).write_text("x\n1\n")
    (data / "out").symlink_to("/etc")
    home.settings_path.write_text(home.settings_path.read_text() + f'data_folders = ["{data}"]\n')
    return home, data


@pytest.fixture
def page(made):
    home, _ = made
    home.gui_path.unlink(missing_ok=True)
    page = Page(home)
    yield page
    page.close()


@pytest.fixture
def manager(page):
    return page.browser(Role.MANAGER)


@pytest.fixture
def data(made):
    return made[1]


def recorded(page, *actions):
    records = read_records(page.home.audit_path)
    return [(one.actor, one.action) for one in records if one.action in actions]


def begun(browser, path):
    """Begin to add a file or folder, and return the path of the draft."""
    answer = browser.post("/data/add", {"folder": "0", "path": path})
    return answer.headers["location"].removesuffix("/what")


def arrived(browser, answer):
    """Follow an answer to the page that shows what came of it, waiting as a browser with htmx does."""
    while answer.status_code == 303 or "hx-redirect" in answer.headers or 'id="waiting"' in answer.text:
        path = answer.headers.get("location") or answer.headers.get("hx-redirect") or str(answer.url)
        answer = browser.get(path, headers={"hx-request": "true"} if "/job/" in path else {})
    return answer


def registered(page, path, *, name, tags=("added",), **options):
    """Register a table without the page."""
    wish = NewDataset(path, name, tags, "a set for a test", "tabular", options)
    return Datasets(page.home, "anna").add(wish)


@pytest.fixture
def trial(page):
    """The set that every home has, put back as it was."""
    dataset = Datasets(page.home, "anna").find("trial")
    yield dataset
    registry = Registry(page.home.registry_path)
    with registry._db:
        registry._db.execute("DELETE FROM dataset WHERE name != 'trial'")
    registry.close()


def test_a_table_is_registered_step_by_step(page, manager, trial, caplog):
    caplog.set_level(logging.DEBUG)
    before = len(recorded(page, Action.VALUES_SEEN, Action.DATASET_REGISTERED))
    draft = begun(manager, "heart.csv")
    assert "looks like tabular" in manager.get(f"{draft}/what").text
    assert f"{draft}/options" == manager.post(f"{draft}/what", {"type": "tabular"}).headers["location"]

    wrong = {"o.on_broken": "refuse", "o.delimiter": "::", "o.units.key.0": PATIENT}
    answer = manager.post(f"{draft}/options", wrong)
    assert 422 == answer.status_code
    assert "at most 1 character" in answer.text
    assert "::" in answer.text
    assert PATIENT in answer.text

    right = {"o.on_broken": "refuse", "o.units.key.0": "chol", "o.units.value.0": "mg/dl"}
    answer = arrived(manager, manager.post(f"{draft}/options", right))
    assert "This can be registered" in answer.text
    assert "mg/dl" in answer.text
    assert "Float64" in answer.text

    answer = manager.get(f"{draft}/samples/now")
    assert '<td class="number">40</td>' in answer.text

    taken = {"name": "trial", "tags": "trial, heart", "description": "as long as my arm"}
    answer = manager.post(f"{draft}/labels", taken)
    assert 422 == answer.status_code
    assert 2 == answer.text.count('class="problem"')
    assert "as long as my arm" in answer.text
    manager.post(f"{draft}/labels", taken | {"name": "Heart", "tags": "Heart, UCI"})
    assert "mg/dl" in manager.get(f"{draft}/summary").text

    answer = arrived(manager, manager.post(f"{draft}/summary"))
    dataset = Datasets(page.home, "anna").find("Heart")
    assert "Heart is registered" in answer.text
    assert (60, ("heart", "uci"), {"units": {"chol": "mg/dl"}}) == (
        dataset.samples, dataset.tags, dict(dataset.parameters)
    )  # fmt: skip
    assert 404 == manager.get(f"{draft}/summary").status_code
    me = "person manager (web)"
    assert [(me, "values_seen"), (me, "dataset_registered")] == recorded(
        page, Action.VALUES_SEEN, Action.DATASET_REGISTERED
    )[before:]
    assert not [
        text
        for text in (PATIENT, "heart.csv", "mg/dl")
        if text in repr([vars(one) for one in caplog.records])
    ]


def test_a_dry_run_counts_complete_subjects_and_names_broken_ones(page, manager, trial):
    draft = begun(manager, "brains")
    manager.post(f"{draft}/what", {"type": "medical-folder"})
    form = {"o.demographics": "participants.tsv", "o.incomplete": "keep", "o.identified": "refuse",
            "o.on_broken": "refuse"}  # fmt: skip
    answer = arrived(manager, manager.post(f"{draft}/options", form))

    cards = dict(re.findall(r"<dt>([\w ]+)</dt><dd class=\"figure\">(\d+)</dd>", answer.text))
    assert {"Samples": "2", "Complete subjects": "2", "Broken samples": "1"} == cards
    assert "sub-3" in answer.text
    assert "its header is damaged" in answer.text
    assert "Samples that cannot be read: 1" in answer.text

    manager.post(f"{draft}/check", {"skip": "yes"})
    assert "This can be registered" in manager.get(f"{draft}/check").text

    answer = manager.get(f"{draft}/samples/now")
    sheet = re.search(r"/data/picture/[\w-]+", answer.text).group()
    assert "sub-1, T1" in answer.text
    assert "sub-3" not in answer.text
    assert 404 == page.browser(Role.ADMIN).get(sheet).status_code
    picture = manager.get(sheet)
    assert ("image/png", b"\x89PNG") == (picture.headers["content-type"], picture.content[:4])
    assert 404 == manager.get(sheet).status_code


def test_counts_are_drawn(page, manager, trial, data):
    dataset = registered(page, data / "heart.csv", name="for counts", tags=("counts",))
    answer = manager.get(f"/data/set/{dataset.dataset_id}/counts/now")

    assert 2 == answer.text.count('<svg class="histogram"')
    assert "6 missing (10 %)" in answer.text
    assert "60 samples were counted" in answer.text
    assert ("person manager (web)", "values_seen") == recorded(page, Action.VALUES_SEEN)[-1]


def test_a_set_is_changed_and_what_was_typed_survives_a_refusal(page, manager, trial, data):
    file = data / "change.csv"
    file.write_text("a,b\n1,2\n3,4\n")
    path = f"/data/set/{registered(page, file, name='before').dataset_id}"
    form = {"name": "after", "tags": "added", "description": "another text",
            "o.on_broken": "refuse", "o.units.key.0": "a", "o.units.value.0": "kg"}  # fmt: skip

    answer = arrived(manager, manager.post(f"{path}/edit", form | {"o.id_column": "nobody"}))
    assert "WRN-4" in answer.text
    assert "another text" in answer.text
    assert "nobody" in answer.text
    assert "before" == Datasets(page.home, "anna").find(path.rpartition("/")[2]).name

    answer = arrived(manager, manager.post(f"{path}/edit", form))
    assert "after was changed" in answer.text
    assert "kg" in answer.text


def test_a_check_tells_what_changed(page, manager, trial, data):
    file = data / "check.csv"
    file.write_text("a,b\n1,2\n3,4\n")
    path = f"/data/set/{registered(page, file, name='checked').dataset_id}"
    file.write_text("a,c\n1,2\n3,4\n5,x\n")
    answer = arrived(manager, manager.post(f"{path}/check"))

    assert "It had 2 samples, and has 3 now" in answer.text
    assert "These are gone: b" in answer.text
    assert "These are new: c" in answer.text


def test_a_removal_names_who_uses_the_set(page, manager, trial, data):
    dataset = registered(page, data / "heart.csv", name="used", tags=("used",))
    page.home.audit().append(
        Entry(action=Action.TASK_ASKED, actor="lab", dataset_id=dataset.dataset_id, task_id=new_uuid(),
              plan_name="HeartPlan", plan_hash="0" * 64)
    )  # fmt: skip
    path = f"/data/set/{dataset.dataset_id}"

    for shown in (manager.get(path).text, manager.get(f"{path}/remove").text):
        assert "lab" in shown
        assert "HeartPlan" in shown
    assert "never" not in re.search(r"used</a>.*?</tr>", manager.get("/data").text, re.DOTALL).group()
    assert "/data" == manager.post(f"{path}/remove").headers["location"]
    assert "used was removed" in manager.get("/data").text
    assert (data / "heart.csv").exists()


def test_options_are_kept_as_a_plan_and_taken_for_the_next_set(page, manager, trial, data):
    file = data / "plan.csv"
    file.write_text("a;b\n1;2\n")
    dataset = registered(page, file, name="first of its kind", delimiter=";")
    answer = manager.post(f"/data/set/{dataset.dataset_id}/keep", {"name": "semicolons"})
    assert "/data/loading" == answer.headers["location"]
    assert "semicolons" in manager.get("/data/loading").text

    draft = begun(manager, "plan.csv")
    manager.post(f"{draft}/what", {"type": "images", "loading": "semicolons"})
    assert 'value=";"' in manager.get(f"{draft}/options").text
    assert 303 == manager.post("/data/loading/remove", {"name": "semicolons"}).status_code


def test_a_thousand_sets_are_listed_searched_and_paged(page, trial):
    viewer = page.browser(Role.VIEWER)
    registry = Registry(page.home.registry_path)
    row = dict(registry._db.execute("SELECT * FROM dataset WHERE name = 'trial'").fetchone())
    names = ", ".join(row)
    with registry._db:
        registry._db.executemany(
            f"INSERT INTO dataset ({names}) VALUES ({', '.join('?' * len(row))})",  # noqa: S608 - names of columns
            [
                tuple((row | {"dataset_id": str(new_uuid()), "name": f"set {number:04d}",
                              "tags": f'["tag{number}"]'}).values())
                for number in range(1000)
            ],
        )  # fmt: skip
    registry.close()

    assert 50 == viewer.get("/data").text.count('<th scope="row">')
    assert "Page 21 of 21" in viewer.get("/data?page=21").text
    found = re.findall(r"/data/set/[\w-]+\">([\w ]+)</a>", viewer.get("/data?text=SET+077&type=tabular").text)
    assert [f"set 077{digit}" for digit in range(10)] == found
    assert "set 0042" in viewer.get("/data?tag=tag42").text
    assert "Nothing fits" in viewer.get("/data?text=nothing+of+the+kind").text


def test_a_viewer_sees_neither_values_nor_places_nor_options(page, trial, data):
    dataset = registered(page, data / "heart.csv", name="for viewers", leave_out=["3"])
    path = f"/data/set/{dataset.dataset_id}"
    shown = page.browser(Role.VIEWER).get(path).text

    assert "for viewers" in shown
    assert "chol" in shown
    assert [] == [text for text in (str(data), "leave out", "/edit", "/remove", "/samples") if text in shown]


@pytest.mark.parametrize(
    "name", ["..", "../lyon", "%2e%2e", "/etc", "out", "out/passwd", ".", "many/../..", "a%00b", "%ff"]
)
def test_no_way_leads_out_of_the_data_folder(manager, name):
    browsed = manager.get(f"/data/browse?folder=0&path={name}")
    added = manager.client.post(
        "/data/add", content=f"csrf={manager.token()}&folder=0&path={name}",
        headers={"content-type": "application/x-www-form-urlencoded"},
    )  # fmt: skip

    assert (422, 422) == (browsed.status_code, added.status_code)
    assert "root:" not in browsed.text
    assert "policy.toml" not in browsed.text


@pytest.mark.parametrize("folder", ["-1", "1", "x", "٣", "9" * 50])
def test_only_the_data_folders_can_be_browsed(manager, folder):
    assert 422 == manager.get(f"/data/browse?folder={folder}").status_code


def test_names_that_are_html_are_shown_and_do_nothing(manager):
    shown = manager.get("/data/browse").text

    assert "<img" not in shown
    assert "onerror=alert" in shown
    assert "link that leads out" in shown
    draft = begun(manager, HOSTILE)
    assert "<img" not in manager.get(f"{draft}/what").text


def test_a_folder_with_ten_thousand_files_is_paged(manager, data):
    folder = data / "many"
    for number in range(10_000):
        (folder / f"f{number:05d}.csv").touch()

    assert 50 == manager.get("/data/browse?path=many").text.count('<th scope="row"')
    last = manager.get("/data/browse?path=many&page=20&text=f09").text
    assert "f09999.csv" in last
    assert "Page 20 of 20" in last


def test_a_file_that_moved_out_of_the_data_folder_is_not_read(page, manager, data, tmp_path):
    (data / "moved.csv").write_text("x\n1\n")
    draft = begun(manager, "moved.csv")
    (data / "moved.csv").unlink()
    (data / "moved.csv").symlink_to(page.home.path / "table.csv")

    for answer in (manager.post(f"{draft}/check"), manager.get(f"{draft}/samples/now"),
                   manager.post(f"{draft}/summary")):  # fmt: skip
        assert 422 == answer.status_code
        assert "WRN-431" in answer.text


def test_drafts_and_errands_of_others_are_not_there(page, manager):
    draft = begun(manager, "heart.csv")
    job = manager.post(f"{draft}/check").headers["location"]
    other = page.browser(Role.ADMIN)

    for path in (f"{draft}/what", f"{draft}/samples/now", job):
        assert 404 == other.get(path).status_code
    for path in (f"{draft}/what", f"{draft}/forget", f"{job}/stop"):
        assert 404 == other.post(path).status_code
    assert 303 == manager.post(f"{job}/stop").status_code


def test_steps_that_there_are_not_and_types_that_there_are_not_are_refused(manager):
    draft = begun(manager, "heart.csv")

    assert (404, 404) == (manager.get(f"{draft}/forget").status_code, manager.post(f"{draft}/x").status_code)
    for data_type in ("", "no such type", "common.errors"):
        assert 422 == manager.post(f"{draft}/what", {"type": data_type}).status_code


def test_forms_that_are_too_large_are_refused(manager):
    draft = begun(manager, "heart.csv")
    many = {f"o.units.key.{number}": "x" for number in range(600)}

    assert 400 == manager.post(f"{draft}/options", many).status_code
    assert 413 == manager.post(f"{draft}/options", {"o.leave_out": "x" * 1_200_000}).status_code


def test_a_page_without_data_folders_says_who_can_name_them(page, manager):
    text = page.home.settings_path.read_text()
    page.home.settings_path.write_text(text.partition("data_folders")[0])
    try:
        assert "setting data_folders" in manager.get("/data/browse").text
    finally:
        page.home.settings_path.write_text(text)


def test_an_errand_that_takes_too_long_is_ended(page, monkeypatch, data):
    monkeypatch.setattr(runner, "LOOK_S", 0.001)
    subject = errands.Subject(path=data / "heart.csv", data_type="tabular", options={})

    with pytest.raises(LookEndedError, match="took longer"):
        page.site.runner.do(errands.Look(subject=subject), errands.Looked, by="anna")


def test_who_waits_for_a_look_does_not_wait_for_ever_for_others(page, monkeypatch):
    """Else two long dry runs and some impatient clicks would take every thread of the page."""
    monkeypatch.setattr(runner, "LOOK_S", 0.01)
    for _ in range(runner.SIDE_BY_SIDE):
        page.site.runner._turns.acquire()

    with pytest.raises(LookEndedError, match="2 others took longer"):
        page.site.runner.do(errands.AskOptions(data_type="tabular"), errands.Questions, by="anna")

    for _ in range(runner.SIDE_BY_SIDE):
        page.site.runner._turns.release()


def test_an_errand_that_was_given_up_changes_nothing(page, trial, data):
    subject = errands.Subject(path=data / "heart.csv", data_type="tabular", options={})
    wish = errands.Register(
        subject=subject, name="given up", tags=("up",), description="not", loading=None, watched=False
    )
    site, arrived_at = page.site, threading.Event()
    for _ in range(runner.SIDE_BY_SIDE):
        site.runner._turns.acquire()
    key = site.runner.begin(
        wish, errands.Registered, by="anna", person_id=1, what="register", back="/data",
        then=lambda _: arrived_at.set() or "/data",
    )  # fmt: skip
    job = site.runner.job(key, 1)
    job.give_up()
    for _ in range(runner.SIDE_BY_SIDE):
        site.runner._turns.release()

    assert job.ended.wait(DEADLINE_S)
    assert "gave it up" in str(job.error)
    assert not arrived_at.is_set()
    assert "given up" not in [one.name for one in Datasets(page.home, "anna").list()]
