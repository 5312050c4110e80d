"""A person registers a data set in a dialogue: every answer is checked at once, and there is always a way back."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from common.datasets.families import DATA_TYPES, family
from common.datasets.families.base import Options
from common.datasets.families.questions import questions
from common.errors import InvalidDatasetError
from node.cli.wizard import BACK, QUIT, REST, Wizard
from node.home import NodeHome
from node.steward.datasets import Datasets, NewDataset
from tests.support.nodes import make_kits, write_table

WARREN_NODE = Path(sys.executable).with_name("warren-node")
DEADLINE_S = 60


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return make_kits(tmp_path_factory.mktemp("kits") / "kits", {"north": "node"})["north"].path


@pytest.fixture
def datasets(tmp_path, kit):
    return Datasets(NodeHome.create(tmp_path / "home", kit), "anna")


class Person:
    """Gives these answers in order, an empty one where a question is not named, and remembers what was asked and shown."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.shown = []

    def ask(self, prompt, default):
        name = prompt.partition(":")[0].partition(" (")[0].partition(",")[0]
        self.asked.append(name)
        assert len(self.asked) < 100, "the dialogue does not end"
        if self.answers and name.startswith(self.answers[0][0]):
            return self.answers.pop(0)[1] or default
        return default

    def say(self, text):
        self.shown.append(text)


LABELS = (("name", "heart"), ("tags", "heart,uci"), ("description", "heart disease"))


def conducted(datasets, person, **given):
    return Wizard(datasets, person, given).run()


def test_a_data_set_is_registered_with_what_was_answered(datasets, tmp_path):
    path = write_table(tmp_path / "heart.csv")
    person = Person(("file", str(path)), ("leave_out", "3, 4"), *LABELS, ("tell when", "yes"))

    made = conducted(datasets, person)

    assert ("tabular", "heart", ("heart", "uci"), "heart disease", True) == (
        made.data_type,
        made.name,
        made.tags,
        made.description,
        made.watched,
    )
    assert ({"leave_out": ["3", "4"]}, 14) == (made.parameters, made.samples)
    assert "found 16 samples, 0 left out" in person.shown
    assert "each has x (Int64), y (Int64)" in person.shown
    assert "option leave_out: ['3', '4']" in person.shown
    assert (made,) == datasets.list()


def test_each_wrong_answer_is_refused_at_once_and_asked_for_again(datasets, tmp_path):
    path = write_table(tmp_path / "heart.csv")
    datasets.add(NewDataset(path, "lungs", ("lungs",), "the lungs"))
    person = Person(
        ("file", str(tmp_path / "nothing.csv")),
        ("file", str(path)),
        ("type", "tables"),
        ("delimiter", ";;"),
        ("on_broken", "shrug"),
        ("name", "x"),
        ("name", "lungs"),
        ("name", "heart"),
        ("tags", "lungs,left"),
        ("tags", "heart"),
        ("description", "no"),
        ("description", "heart disease"),
        ("register", "perhaps"),
    )

    assert "heart" == conducted(datasets, person).name

    codes = [line[:7] for line in person.shown if line.startswith("WRN-")]
    assert [
        "WRN-401",
        "WRN-409",
        "WRN-409",
        "WRN-409",
        "WRN-409",
        "WRN-409",
        "WRN-406",
        "WRN-409",
        "WRN-409",
    ] == codes
    assert [] == person.answers


def test_one_can_go_back_and_change_an_answer(datasets, tmp_path):
    first, second = write_table(tmp_path / "heart.csv"), write_table(tmp_path / "heart2.csv", rows=4)
    person = Person(
        ("file", str(first)),
        ("type", BACK),
        ("file", str(second)),
        ("delimiter", REST),
        ("name", "herat"),
        ("tags", BACK),
        *LABELS,
    )

    made = conducted(datasets, person)

    assert (second, "heart", 4) == (made.path, made.name, made.samples)
    assert "header" not in person.asked
    assert {} == made.parameters


@pytest.mark.parametrize(
    "answers",
    [(("type", QUIT),), (LABELS[0], ("tags", QUIT)), (*LABELS, ("register", "no"))],
    ids=["at first", "later", "at the end"],
)
def test_one_can_give_up(datasets, tmp_path, answers):
    path = write_table(tmp_path / "heart.csv")

    assert conducted(datasets, Person(("file", str(path)), *answers)) is None
    assert () == datasets.list()


def test_what_was_said_on_the_command_line_need_not_be_said_again(datasets, tmp_path):
    path = write_table(tmp_path / "heart.csv")

    made = conducted(
        datasets, Person(("file", str(path))), name="heart", tags="heart", description="the heart"
    )

    assert ("heart", ("heart",), "the heart") == (made.name, made.tags, made.description)


def test_what_the_plain_files_lack_is_told_and_options_mend_it(datasets, tmp_path):
    path = tmp_path / "heart.csv"
    path.write_text("x,y\n1,2\n3\n")
    person = Person(("file", str(path)), ("on_broken", "skip"), *LABELS)

    made = conducted(datasets, person)

    assert (1, 1) == (made.samples, made.left_out)
    assert any(line.startswith("as it is, without options: WRN-401") for line in person.shown)


@pytest.mark.parametrize("data_type", DATA_TYPES)
def test_every_option_of_a_family_is_a_question_with_its_meaning(data_type):
    kind = family(data_type).options
    asked = questions(kind)

    assert set(kind.model_fields) - {"broken"} == {one.name for one in asked}
    assert all(one.meaning for one in asked)
    for one in asked:
        if kind.model_fields[one.name].is_required():
            with pytest.raises(InvalidDatasetError, match=one.name):
                one.read("")
        else:
            assert one.default == one.read(one.write(one.default)), one.name
    assert asked[-3:] == tuple(one for one in asked if one.name in Options.model_fields)


def test_answers_are_read_in_the_form_of_their_option():
    asked = {one.name: one for one in questions(family("medical-folder").options)}

    assert {"T1": ["T1_MPR"]} == asked["modalities"].read('{T1 = ["T1_MPR"]}')
    assert '{"T1": ["T1_MPR"]}'.replace(":", " =") == asked["modalities"].write({"T1": ["T1_MPR"]})
    assert ["a", "b c"] == asked["leave_out"].read(" a, b c ")
    assert "refuse" == asked["identified"].read("refuse")
    with pytest.raises(InvalidDatasetError):
        asked["identified"].read("perhaps")
    with pytest.raises(InvalidDatasetError):
        asked["modalities"].read("T1")
    header = next(one for one in questions(family("tabular").options) if one.name == "header")
    assert (False, True, "yes") == (header.read("no"), header.read("Yes"), header.write(True))


def test_the_dialogue_runs_at_a_terminal(datasets, tmp_path):
    path = write_table(tmp_path / "heart.csv")
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [WARREN_NODE, "dataset", "add", datasets.home.path], stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(terminal, f"{path}\n\n{REST}\nheart\nheart\nheart disease\nno\nyes\n".encode())
        shown = b""
        while chunk := _read(terminal):
            shown += chunk
        assert 0 == process.wait(DEADLINE_S), shown
    os.close(terminal)

    assert b"type (tabular, images" in shown
    assert b"registered heart" in shown
    assert ["heart"] == [one.name for one in datasets.list()]


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""
