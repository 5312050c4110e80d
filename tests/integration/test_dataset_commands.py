"""The people of a node register, check, look at and update data of any family."""

import json
import os

import pytest
from PIL import Image
from typer.testing import CliRunner

from common.security.kit import Kit
from node.cli import app
from node.home import NodeHome
from tests.support.cohorts import write_people, write_vcf
from tests.support.nodes import make_kits


@pytest.fixture
def home(tmp_path):
    kits: dict[str, Kit] = make_kits(tmp_path / "kits", {"north": "node", "lab": "researcher"})
    return NodeHome.create(tmp_path / "home", kits["north"].path)


@pytest.fixture
def scans(tmp_path):
    root = tmp_path / "scans"
    for name in ("ill/a.png", "ill/b.png", "well/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 7).save(root / name)
    return root


def asked(*arguments, code=0):
    result = CliRunner().invoke(app, ["dataset", *map(str, arguments), "--json"])
    assert code == result.exit_code, result.output
    return json.loads(result.stdout)


def add(home, path, *more, name="scans", tags="scan,ct"):
    return asked(
        "add", home.path, "--path", path, "--name", name, "--tags", tags, "--description", "scans", *more
    )


def actions(home):
    result = CliRunner().invoke(app, ["audit", "show", str(home.path), "--json"])
    return [one["action"] for one in json.loads(result.stdout)]


def test_the_kind_is_found_out_from_the_names_of_the_files(home, scans):
    made = add(home, scans)

    assert ("images", 3, ["ill", "well"]) == (made["data_type"], made["samples"], made["classes"])


def test_a_kind_that_is_not_clear_must_be_named(home, tmp_path):
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "x.bin").write_bytes(b"x")
    options = ["--path", tmp_path / "bag", "--name", "bag", "--tags", "bag", "--description", "anything"]

    assert "WRN-401" == asked("add", home.path, *options, code=1)["error"]["code"]
    assert 1 == asked("add", home.path, *options, "--type", "custom")["samples"]


def test_options_are_given_in_toml_or_as_text(home, scans):
    (scans / "ill" / "b.png").write_bytes(b"")

    assert "WRN-401" == asked_add_error(home, scans)["code"]
    made = add(home, scans, "--option", "on_broken=skip", "--option", 'leave_out=["ill/a.png"]')

    assert (1, 2, ["ill/b.png"]) == (made["samples"], made["left_out"], made["parameters"]["broken"])
    assert "WRN-409" == asked_add_error(home, scans, "--option", "on_broken")["code"]


def asked_add_error(home, path, *more):
    options = ["--path", path, "--name", "more", "--tags", "more", "--description", "scans", *more]
    return asked("add", home.path, *options, code=1)["error"]


def test_a_file_says_all_that_a_data_set_needs(home, scans, tmp_path):
    (scans / "labels.csv").write_text("scan,grade\nill/a.png,G1\nwell/c.png,G2\n")
    file = tmp_path / "scans.toml"
    file.write_text(
        'path = "scans"\nname = "graded"\ntags = ["grade"]\ndescription = "graded scans"\ntype = "images"\n'
        '[options]\ntable = "labels.csv"\nfile_column = "scan"\nlabel_column = "grade"\n'
    )

    made = asked("add", home.path, "--from", file)

    assert (2, ["G1", "G2"], str(tmp_path / "scans")) == (made["samples"], made["classes"], made["path"])
    file.write_text('path = "scans"\ncolour = "red"\n')
    error = asked("add", home.path, "--from", file, code=1)["error"]
    assert "WRN-901" == error["code"]
    assert "colour" in error["text"]


def test_a_check_looks_at_every_set_and_fails_if_one_has_changed(home, scans, tmp_path):
    (tmp_path / "heart.csv").write_text("x,y\n1,2\n")
    add(home, scans)
    add(home, tmp_path / "heart.csv", name="heart", tags="heart")
    assert [None, None] == [one["error"] for one in asked("check", home.path)["datasets"]]

    Image.new("L", (4, 4), 8).save(scans / "ill" / "new.png")

    found = {one["name"]: one["error"] for one in asked("check", home.path, code=1)["datasets"]}
    assert (None, "WRN-402") == (found["heart"], found["scans"]["code"])
    shown = CliRunner().invoke(app, ["dataset", "check", str(home.path)])
    assert 1 == shown.exit_code
    assert "as registered" in shown.stdout
    assert "has changed since" in shown.stdout


def test_a_thorough_check_finds_what_keeps_its_size_and_time(home, tmp_path):
    path = tmp_path / "heart.csv"
    path.write_text("x,y\n1,2\n")
    add(home, path, name="heart", tags="heart")
    times = path.stat().st_mtime_ns
    path.write_text("x,y\n1,3\n")
    os.utime(path, ns=(times, times))

    asked("check", home.path)
    asked("check", home.path, "--thorough", code=1)


def test_an_update_of_labels_keeps_the_id_and_one_of_content_does_not(home, scans):
    made = add(home, scans)
    renamed = asked("update", home.path, "scans", "--name", "chest", "--tags", "chest")
    Image.new("L", (4, 4), 8).save(scans / "ill" / "new.png")
    changed = asked("update", home.path, "chest")
    fewer = asked("update", home.path, "chest", "--option", 'leave_out=["ill/new.png"]')

    assert (made["dataset_id"], "chest", ["chest"]) == (
        renamed["dataset_id"],
        renamed["name"],
        renamed["tags"],
    )
    assert [3, 3, 4, 3] == [one["samples"] for one in (made, renamed, changed, fewer)]
    assert 3 == len({one["dataset_id"] for one in (made, renamed, changed, fewer)})
    assert ["dataset_registered"] + 3 * ["dataset_updated"] == actions(home)[-4:]
    asked("check", home.path)


def test_a_broken_sample_that_was_mended_is_used_after_an_update(home, scans):
    content = (scans / "ill" / "b.png").read_bytes()
    (scans / "ill" / "b.png").write_bytes(b"")
    broken = add(home, scans, "--option", "on_broken=skip")
    (scans / "ill" / "b.png").write_bytes(content)

    mended = asked("update", home.path, "scans")

    assert [(2, 1), (3, 0)] == [(one["samples"], one["left_out"]) for one in (broken, mended)]


def test_the_first_samples_are_shown_here_only(home, scans, tmp_path):
    (tmp_path / "heart.csv").write_text("x,y\n1,a\n2,b\n")
    add(home, scans)
    add(home, tmp_path / "heart.csv", name="heart", tags="heart")

    assert [{"x": 1, "y": "a"}] == asked("preview", home.path, "heart", "--rows", 1)["samples"]
    assert "ill/a.png" in CliRunner().invoke(app, ["dataset", "preview", str(home.path), "scans"]).stdout


def loading(*arguments, code=0):
    result = CliRunner().invoke(app, ["loading", *map(str, arguments), "--json"])
    assert code == result.exit_code, result.output
    return json.loads(result.stdout)


def test_options_are_saved_under_a_name_and_used_for_one_set_after_another(home, scans):
    for name in ("labels.csv", "other.csv"):
        (scans / name).write_text("scan,grade\nill/a.png,G1\nwell/c.png,G2\n")
    options = ["table=labels.csv", "file_column=scan", "label_column=grade"]
    texts = [text for one in options for text in ("--option", one)]
    saved = loading("save", home.path, "graded", "--type", "images", *texts, "--description", "a table")

    made = add(home, scans, "--loading", "graded")
    fewer = add(
        *(home, scans, "--loading", "graded", "--option", 'leave_out=["ill/a.png"]'),
        name="fewer",
        tags="fewer",
    )
    other = add(
        *(home, scans, "--loading", "graded", "--option", "table=other.csv"),
        name="other",
        tags="other",
    )

    assert {"table": "labels.csv", "file_column": "scan", "label_column": "grade"} == saved["options"]
    assert (saved["options"], ["G1", "G2"], "graded") == (
        made["parameters"],
        made["classes"],
        made["loading"],
    )
    assert (1, "graded", None) == (fewer["samples"], fewer["loading"], other["loading"])
    assert [{**saved, "datasets": ["fewer", "scans"]}] == loading("list", home.path)
    assert ["loading_plan_saved"] == [one for one in actions(home) if one.startswith("loading")]


def test_a_plan_is_made_from_a_set_without_what_names_its_samples(home, scans, tmp_path):
    add(home, scans, "--option", 'leave_out=["ill/a.png"]', "--option", "label_column=grade")

    saved = loading("save", home.path, "plain", "--of", "scans")

    assert ("images", {"label_column": "grade"}, []) == (
        saved["data_type"],
        saved["options"],
        loading("show", home.path, "plain")["datasets"],
    )


def test_a_plan_in_use_stays_until_its_sets_are_updated_or_removed(home, scans):
    loading("save", home.path, "skipping", "--type", "images", "--option", "on_broken=skip")
    loading("save", home.path, "refusing", "--type", "images", "--option", "on_broken=refuse")
    made = add(home, scans, "--loading", "skipping")

    error = loading("remove", home.path, "skipping", code=1)["error"]
    assert ("WRN-423", True) == (error["code"], "scans" in error["text"])
    assert "skipping" == asked("update", home.path, "scans", "--name", "chest")["loading"]
    updated = asked("update", home.path, "chest", "--loading", "refusing")
    loading("remove", home.path, "skipping")

    assert ("refusing", "refuse") == (updated["loading"], updated["parameters"]["on_broken"])
    assert made["dataset_id"] != updated["dataset_id"]
    assert None is asked("update", home.path, "chest", "--option", "on_broken=skip")["loading"]
    loading("remove", home.path, "refusing")
    assert [] == loading("list", home.path)


def test_plans_that_cannot_be_saved_or_found_have_their_codes(home, scans):
    loading("save", home.path, "first", "--type", "images")
    refused = {
        "WRN-409": ["other", "--type", "images", "--option", "colour=red"],
        "WRN-421": ["other", "--type", "images", "--option", 'leave_out=["a"]'],
    }
    for code, arguments in refused.items():
        assert code == loading("save", home.path, *arguments, code=1)["error"]["code"]
    for arguments in (["first", "--type", "images"], ["x", "--type", "images"], ["other", "--type", "maps"]):
        assert "WRN-421" == loading("save", home.path, *arguments, code=1)["error"]["code"]
    assert "WRN-407" == loading("save", home.path, "other", "--of", "nothing", code=1)["error"]["code"]
    assert "WRN-422" == loading("show", home.path, "nothing", code=1)["error"]["code"]
    assert "WRN-422" == asked_add_error(home, scans, "--loading", "nothing")["code"]


def test_genotypes_are_registered_looked_at_checked_and_updated_as_other_sets_are(home, tmp_path):
    root = tmp_path / "cohort"
    root.mkdir()
    write_people(root / "people.tsv", {"ann": [1], "bob": [0]}, ["ill"])
    write_vcf(root / "all.vcf.gz", {"1:5:A:C": ["0/1", "1/1"]}, ["ann", "bob"])

    made = add(home, root, "--option", "phenotypes=people.tsv", "--option", "build=GRCh38")
    write_vcf(root / "all.vcf.gz", {"1:5:A:C": ["0/1", "0/1"]}, ["ann", "bob"])
    gone = asked("check", home.path, code=1)["datasets"][0]["error"]
    new = asked("update", home.path, "scans")

    assert ("genomics", [2, 1]) == (made["data_type"], made["shape"])
    assert "WRN-402" == gone["code"]
    assert made["dataset_id"] != new["dataset_id"]
    assert {"sample": "bob", "ill": 0, "1:5:A:C": 1.0} == asked("preview", home.path, "scans")["samples"][1]
    assert [None] == [one["error"] for one in asked("check", home.path)["datasets"]]
