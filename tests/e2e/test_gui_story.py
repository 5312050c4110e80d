"""The people of a hospital do all of their work on the web page, in a real browser, while a real agent trains over a real broker.

With WARREN_SCREENSHOTS set to a folder, the story leaves pictures of what it sees there; `make screenshots` does that.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from common.audit.record import Action
from common.audit.verify import read_records
from common.errors import PlanNotApprovedError
from node.gui.listen import Listen
from node.home import NodeHome
from node.process import stop
from node.steward.agents import AgentControl
from researcher import Experiment
from researcher.experiment_file import import_plan
from researcher.federation import Federation
from researcher.home import Home
from tests.support.browser import DEADLINE_MS, LOOKS, PICTURES, launched, looked_at, pictured
from tests.support.page import PASSWORD, written
from tests.support.ward import write_ward

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300), pytest.mark.usefixtures("forked_processes")]

PLAN = '''
import time

import torch
from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import TorchTrainingPlan

PAUSE_S = 0.04


class HeartRisk(TorchTrainingPlan):
    """Tell ill from healthy patients by age, blood pressure and cholesterol."""

    def init_model(self, model_args):
        return torch.nn.Linear(3, 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=optimizer_args["lr"])

    def training_data(self):
        columns = ["age", "resting_pressure", "cholesterol"]
        return DataManager(TabularDataset(columns, "target", standardize=True), batch_size=16)

    def training_step(self, data, target):
        time.sleep(PAUSE_S)  # slow enough for people to watch
        score = self.model()(data).squeeze(1)
        return torch.nn.functional.binary_cross_entropy_with_logits(score, target.float())
'''
NEXT = PLAN.replace("import time\n", "import os\nimport time\n").replace(
    "        score =", '        with open(os.environ["HOME"] + "/seen", "a") as file:\n'
    "            file.write(str(target))\n        score ="
)  # fmt: skip
UPDATES = 120
NOTE = "Read line by line: a linear model of three columns."

SETS = {
    "heart.csv": ("tabular", "Heart disease", "heart", {}),
    "smears": ("images", "Blood smears", "smears", {}),
    "brains": ("medical-folder", "Brain lesions", "brains", {"o.demographics": "participants.tsv"}),
    "ecg": ("signals", "Heart beats", "ecg", {}),
    "genomes": ("genomics", "Three variants", "genomes", {"o.phenotypes": "people.tsv"}),
}
"""By the name of the file or folder: its type, how it is called, its tag, and the options that it needs."""
LOOKED_AT = ("images", "medical-folder", "signals")
"""Types whose first samples somebody looks at; each look is a process."""


@pytest.fixture
def home(make_federation, tmp_path, tmp_path_factory):
    """A node whose agent runs, with its page beside it."""
    federation = make_federation(researchers=("alice",), nodes=("lyon",))
    home = NodeHome.create(tmp_path / "lyon", federation.kit_path("lyon"))
    data = write_ward(tmp_path_factory.mktemp("hospital") / "data")
    home.settings_path.write_text(
        f'worker_threads = 1\ncompulsory_protections = []\ndata_folders = ["{data}"]\n'
    )
    Home.init(tmp_path / "alice", federation.kit_path("alice"))
    AgentControl(home, "the test").start(page=Listen(port=0))
    yield home
    stop(home)


@pytest.fixture
def alice(home, tmp_path):
    """The researcher, connected."""
    with Federation.open(tmp_path / "alice") as place:
        place.wait_for(["lyon"], 30)
        yield place


@pytest.fixture
def chromium():
    with launched() as browser:
        yield browser


class Reader:
    """Somebody with a browser; what is wrong with the pages that were looked at is kept."""

    problems: dict[str, list[str]]

    def __init__(self, chromium, address: str, problems: dict[str, list[str]]) -> None:
        context = chromium.new_context(base_url=address, viewport=LOOKS["wide"])
        context.set_default_timeout(DEADLINE_MS)
        self.page: Page = context.new_page()
        self.problems = problems
        self.page.on("pageerror", lambda error: problems.setdefault("scripts", []).append(str(error)))

    def joins(self, link: str, name: str = "") -> None:
        self.page.goto(link)
        if name:
            self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_label("Password again").fill(PASSWORD)
        self.page.get_by_role("button").click()
        self.stands_on("Overview")

    def stands_on(self, title: str) -> None:
        expect(self.page.get_by_role("heading", level=1)).to_have_text(title)

    def goes_to(self, area: str) -> None:
        self.page.get_by_role("navigation", name="Main").get_by_role("link", name=area).click()
        self.stands_on(area)

    def step(self, name: str) -> None:
        expect(self.page.locator("ol.steps [aria-current=step]")).to_have_text(name)

    def presses(self, name: str) -> None:
        self.page.locator("button:not(.unseen)").get_by_text(name, exact=True).click()

    def checks(self, name: str) -> None:
        """Let axe-core look at the page, and take its picture."""
        self.problems[name] = looked_at(self.page)
        pictured(self.page, name)


def test_people_share_data_approve_a_plan_watch_it_train_and_take_it_back(home, alice, chromium, tmp_path):
    problems: dict[str, list[str]] = {}
    address = written(home.log / "gui.out", r"is at (http://\S+)")[1]
    anna, mia = (Reader(chromium, address, problems) for _ in range(2))

    anna.joins(home.gui_link_path.read_text().strip(), "anna")
    mia.joins(invited(anna, "mia"))
    for place, (kind, name, tag, options) in SETS.items():
        adds(mia, place, kind, name, tag, options)
    looks_after(mia)

    plan = planned(tmp_path / "plan.py", PLAN)
    with experiment_of(alice, plan) as experiment:
        with pytest.raises(PlanNotApprovedError, match="WRN-501"):
            experiment.run(1)
        experiment.request_approval("For the heart study, protocol 12.")
        approves(mia, experiment)
        watches(mia, experiment)
        sees_what_left(mia, experiment)
        asks_for_more(mia, alice, tmp_path)
        takes_back(mia, experiment)
        with pytest.raises(PlanNotApprovedError, match=r"WRN-501.*rejected"):
            experiment.run(1)
    reads_the_log(anna, home)

    if PICTURES:
        takes_pictures(anna, chromium, address)
    assert {} == {name: found for name, found in problems.items() if found}


def invited(reader, name):
    """Invite somebody as a data manager, and return the link for that."""
    reader.goes_to("People")
    reader.page.get_by_label("Name", exact=True).fill(name)
    reader.page.get_by_label("Role", exact=True).select_option("data manager")
    reader.presses("Make an account")
    return reader.page.locator("code.secret").inner_text()


def adds(reader, place, kind, name, tag, options):
    """Find something in the data folder, and register it step by step."""
    page = reader.page
    reader.goes_to("Data")
    page.get_by_role("link", name="Add a data set").first.click()
    if place == "ecg":
        reader.checks("browse")
    page.get_by_role("row", name=re.compile(rf"^{re.escape(place)}")).get_by_role(
        "button", name="Add"
    ).click()
    reader.step("Type")
    expect(page.get_by_text(f"This looks like {kind}.")).to_be_visible()
    reader.presses("Go on")
    reader.step("Options")
    for field, value in options.items():
        page.locator(f'[name="{field}"]').fill(value)
    if kind == "medical-folder":
        reader.checks("wizard-options")
    reader.presses("Read all of it")
    expect(page.get_by_text("This can be registered.")).to_be_visible()
    if kind == "medical-folder":
        expect(page.locator(".card", has_text="Complete subjects").locator(".figure")).to_have_text("4")
        reader.checks("wizard-dry-run")
    if kind in LOOKED_AT:
        page.get_by_role("link", name="Go on").click()
        reader.step("First samples")
        expect(page.locator("#values .loading")).to_have_count(0)
        expect(page.locator("#values").locator("table, img, svg").first).to_be_visible()
        if kind == "images":
            reader.checks("wizard-samples")
        reader.presses("Go on")
    else:
        page.locator("ol.steps").get_by_role("link", name="Name").click()
    reader.step("Name")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Tags", exact=True).fill(tag)
    page.get_by_label("Description", exact=True).fill(f"{name} of our patients, measured here")
    reader.presses("Go on")
    reader.step("Summary")
    reader.presses("Register")
    expect(page.get_by_text(f"{name} is registered.")).to_be_visible()


def looks_after(reader):
    """See all sets in the list, and one of them drawn."""
    page = reader.page
    reader.goes_to("Data")
    for _, name, _, _ in SETS.values():
        expect(page.get_by_role("rowheader", name=name)).to_be_visible()
    page.get_by_role("link", name="Heart disease").click()
    page.get_by_role("link", name="Summary plots").click()
    expect(page.locator("svg.histogram").first).to_be_visible()
    reader.checks("data-plots")


def approves(reader, experiment):
    """Find a plan in the queue, read it, and approve it within a limit."""
    page = reader.page
    reader.goes_to("Plans")
    row = page.get_by_role("row", name=re.compile("HeartRisk"))
    expect(row).to_contain_text("waits")
    expect(row).to_contain_text("For the heart study, protocol 12.")
    row.get_by_role("link").click()
    expect(page.locator("#source + .code")).to_contain_text("binary_cross_entropy_with_logits")
    expect(page.get_by_text("No other plan called HeartRisk is approved here.")).to_be_visible()
    expect(page.locator(".remarks")).to_contain_text("torch")
    assert experiment.plan_hash == page.locator("code.secret").inner_text()
    page.get_by_label("Your note").fill(NOTE)
    page.get_by_label("Argument of limit 1").fill("num_updates")
    page.get_by_label("Number of limit 1").fill("1000")
    reader.presses("Approve")
    expect(page.get_by_text("HeartRisk may run here from now on.")).to_be_visible()


def watches(reader, experiment):
    """Keep the page open while the researcher trains: progress, loss and the end show by themselves."""
    page = reader.page
    reader.goes_to("Activity")
    expect(page.get_by_text("Nothing to do")).to_be_visible()
    expect(page.get_by_text("No task has ended yet")).to_be_visible()
    page.evaluate("window.neverLoadedAgain = true")
    seen = threading.Event()

    def trains():
        experiment.run(1)
        while not seen.is_set():  # a busy machine may need a second look
            experiment.run(1)

    training = threading.Thread(target=trains)
    training.start()
    try:
        expect(page.locator("#open progress")).to_be_visible(timeout=2 * DEADLINE_MS)
        expect(page.locator("#open td.number")).to_have_text(re.compile(r"^\d"))
        pictured(page, "activity")
    finally:
        seen.set()
        training.join()
    expect(
        page.locator("#rows").get_by_role("row", name=re.compile("HeartRisk.*trained")).first
    ).to_be_visible()
    expect(page.get_by_text("Nothing to do")).to_be_visible()
    assert page.evaluate("window.neverLoadedAgain")
    reader.problems["activity"] = looked_at(page)


def sees_what_left(reader, experiment):
    """Find the digest and the size of the update that the researcher got."""
    page, update = reader.page, experiment.history()[-1].nodes["lyon"]
    page.locator("#rows").get_by_role("link", name="HeartRisk").first.click()
    reader.stands_on(f"HeartRisk, round {experiment.round_current()}")
    expect(page.locator("#left-title ~ dl")).to_contain_text(update.digest)
    expect(page.locator("#left-title ~ dl")).to_contain_text("alice")
    expect(page.locator("figure.curve polyline")).to_be_visible()
    reader.checks("task")
    page.goto("/activity/left")
    row = page.get_by_role("row", name=re.compile(update.digest[:12]))
    expect(row).to_contain_text(f"{update.update_bytes} bytes")
    expect(row).to_contain_text("Heart disease")
    reader.checks("what-left")


def asks_for_more(reader, alice, folder):
    """See in the difference to the plan that runs here why its successor must not, and reject it."""
    page = reader.page
    with experiment_of(alice, planned(folder / "next.py", NEXT)) as following:
        following.request_approval("The same, a little faster.")
    reader.goes_to("Plans")
    expect(page.get_by_role("row", name=re.compile("waits"))).to_be_visible()
    reader.checks("plans")
    page.get_by_role("row", name=re.compile("waits")).get_by_role("link").click()
    expect(page.locator("pre.diff ins", has_text="open(")).to_be_visible()
    expect(page.locator(".remarks .loud", has_text="May use files")).to_be_visible()
    reader.checks("plan")
    page.get_by_label("Your note").fill("It writes the patients' labels to a file.")
    reader.presses("Reject")
    expect(page.get_by_text("HeartRisk may not run here")).to_be_visible()


def takes_back(reader, experiment):
    """Take an approval back."""
    page = reader.page
    page.goto(f"/plans/{experiment.plan_hash}")
    page.get_by_label("Your note").fill("The study is over.")
    reader.presses("Take the approval back")
    expect(page.get_by_text("HeartRisk may not run here")).to_be_visible()


def reads_the_log(reader, home):
    """Check the chain, and find who did what."""
    page = reader.page
    reader.goes_to("Audit log")
    page.get_by_role("link", name="Check the chain").click()
    expect(page.locator("#verdict")).to_contain_text("The log is in order")
    expect(
        page.get_by_role("row", name=re.compile(r"person mia \(web\).*plan rejected")).first
    ).to_be_visible()
    reader.checks("audit")
    mine = [one.action for one in read_records(home.audit_path) if one.actor == "person mia (web)"]
    wanted = {Action.DATASET_REGISTERED: len(SETS), Action.VALUES_SEEN: len(LOOKED_AT) + 1}
    assert wanted == {action: mine.count(action) for action in wanted}
    assert [Action.PLAN_APPROVED, Action.PLAN_REJECTED, Action.PLAN_REJECTED] == [
        action for action in mine if action in (Action.PLAN_APPROVED, Action.PLAN_REJECTED)
    ]


def takes_pictures(reader, chromium, address):
    """Take pictures of the other pages."""
    page = reader.page
    for path, name in {
        "/": "overview",
        "/data": "data",
        "/plans/history": "plan-history",
        "/settings": "settings",
        "/settings/policy": "policy",
        "/people": "people",
        "/me": "account",
    }.items():
        page.goto(path)
        pictured(page, name)
    page.goto("/")
    pictured(page, "overview-dark", scheme="dark", whole=False)
    pictured(page, "overview-phone", look="phone", whole=False)
    page.goto("/activity")
    pictured(page, "activity-dark", scheme="dark", whole=False)
    stranger = Reader(chromium, address, {})
    stranger.page.goto("/login")
    pictured(stranger.page, "login", whole=False)


def planned(file: Path, source: str):
    file.write_text(source)
    return import_plan(file, "HeartRisk")


def experiment_of(place, plan):
    args = {"num_updates": UPDATES, "random_seed": 1, "optimizer_args": {"lr": 0.1}}
    return Experiment(
        tags=["heart"], training_plan_class=plan, training_args=args, federation=place, observers=()
    )
