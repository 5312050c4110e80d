import hashlib
import multiprocessing
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import (
    DataFileError,
    DataFileGoneError,
    InvalidDatasetError,
    NoSuchDatasetError,
    TagsOverlapError,
    TooFewSamplesError,
)
from common.sqlite import open_database, transaction
from node import database
from node.registration import normalised
from node.registry import Registry


@pytest.fixture
def registry(tmp_path):
    opened = Registry(tmp_path / "registry.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "secret place.csv"
    path.write_text("age,chol,sex\n63,233.5,M\n41,,F\n")
    return path


def add(registry, path, *, name="heart", tags=("heart", "tabular"), description="heart disease", **more):
    return registry.add(path, name=name, tags=tags, description=description, **more)


def test_a_registered_data_set_is_described_by_its_columns(registry, table):
    dataset = registry.get(add(registry, table).dataset_id)
    assert (2, (2, 3)) == (dataset.samples, dataset.shape)
    assert [("age", 0), ("chol", 1), ("sex", 0)] == [
        (column.name, column.missing) for column in dataset.columns
    ]


def test_the_description_holds_no_path_and_no_value(registry, table):
    text = add(registry, table).describe().model_dump_json()
    for secret in ("secret place", str(table.parent), "233.5", "63"):
        assert secret not in text.replace(add_id(registry), "")


def add_id(registry):
    return registry.list()[0].dataset_id


def test_what_is_stored_is_what_was_added(registry, table):
    added = add(registry, table, parameters={"delimiter": ","})
    assert (added,) == registry.list()
    assert added == registry.find("heart") == registry.find(added.dataset_id)


def test_another_registry_on_the_same_file_sees_it_at_once(registry, table, tmp_path):
    other = Registry(tmp_path / "registry.sqlite")
    added = add(registry, table)
    assert (added,) == other.list()
    other.close()


def test_a_search_finds_sets_that_carry_all_tags_however_they_are_written(registry, table):
    added = add(registry, table, tags=("Heart", " UCI "))
    assert (added,) == registry.search(["uci"]) == registry.search(["HEART", "uci", "uci"])
    assert () == registry.search(["heart", "lungs"])


@pytest.mark.parametrize("tags", [("heart", "uci"), ("heart",), ("uci", "heart", "2024"), ("HEART ", "uci")])
def test_two_sets_whose_tags_contain_each_other_are_refused(registry, table, tags):
    add(registry, table, tags=("heart", "uci"))
    with pytest.raises(TagsOverlapError) as caught:
        add(registry, table, name="other", tags=tags)
    assert "heart" == caught.value.facts["other"]
    assert 1 == len(registry.list())


def test_two_sets_may_share_some_tags(registry, table):
    add(registry, table, tags=("heart", "uci"))
    add(registry, table, name="other", tags=("heart", "2024"))
    assert 2 == len(registry.search(["heart"]))


def test_every_broken_rule_is_named_at_once(registry, table):
    with pytest.raises(InvalidDatasetError) as caught:
        add(registry, table, name="ab", tags=["x"], description="", data_type="scrolls")
    for part in ("name 'ab'", "tag 'x'", "description ''", "'scrolls'"):
        assert part in str(caught.value)


@pytest.mark.parametrize("tags", [[], ["", "  "]])
def test_a_data_set_needs_a_tag(registry, table, tags):
    with pytest.raises(InvalidDatasetError, match="0 tags"):
        add(registry, table, tags=tags)


def test_a_name_is_used_once(registry, table):
    add(registry, table)
    with pytest.raises(InvalidDatasetError, match="taken"):
        add(registry, table, tags=("other",))


def test_a_set_below_the_minimum_is_not_registered(registry, table):
    with pytest.raises(TooFewSamplesError):
        add(registry, table, minimum_samples=3)
    assert () == registry.list()


def test_a_missing_file_and_a_folder_are_refused_by_name(registry, tmp_path):
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(DataFileError, match=str(path)):
            add(registry, path)


def test_a_removed_set_is_gone_and_its_file_is_not(registry, table):
    dataset = add(registry, table)
    registry.remove(dataset.dataset_id)
    assert () == registry.list()
    assert table.exists()
    for forgotten in (registry.get, registry.remove, registry.find):
        with pytest.raises(NoSuchDatasetError):
            forgotten(dataset.dataset_id)


def test_an_unchanged_file_passes(registry, table):
    registry.check(add(registry, table))


def test_a_file_that_was_only_touched_passes_and_is_fast_next_time(registry, table):
    dataset = add(registry, table)
    os.utime(table, ns=(1, 1))
    registry.check(dataset)
    assert 1 == registry.get(dataset.dataset_id).fingerprint.stamp


def test_a_file_that_was_restored_from_a_copy_passes(registry, table, tmp_path):
    dataset = add(registry, table)
    shutil.copyfile(table, tmp_path / "copy")
    table.unlink()
    (tmp_path / "copy").rename(table)
    registry.check(dataset)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "bag"
    for name in ("a/1.bin", "a/2.bin", "b/1.bin"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_a_folder_that_was_only_touched_or_copied_back_passes(registry, folder, tmp_path):
    dataset = add(registry, folder, data_type="custom")
    registry.check(dataset)
    (folder / "a" / ".hidden").write_bytes(b"no data")
    os.utime(folder / "a" / "1.bin", ns=(1, 1))
    registry.check(dataset)
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder)
    (tmp_path / "copy").rename(folder)

    registry.check(registry.get(dataset.dataset_id))

    assert dataset.fingerprint.stamp != registry.get(dataset.dataset_id).fingerprint.stamp


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda root: (root / "a" / "1.bin").write_bytes(b"a/1.bim"), "has changed"),
        (lambda root: (root / "a" / "1.bin").rename(root / "a" / "3.bin"), "has changed"),
        (lambda root: (root / "a" / "1.bin").unlink(), "has changed"),
        (lambda root: (root / "new.bin").write_bytes(b""), "has changed"),
        (lambda root: (root / "link.bin").symlink_to("/etc/passwd"), "became unreadable"),
        (shutil.rmtree, "has gone"),
    ],
    ids=["edited", "renamed", "removed", "added", "linked", "gone"],
)
def test_any_change_in_a_folder_is_noticed(registry, folder, change, what):
    dataset = add(registry, folder, data_type="custom")
    change(folder)

    with pytest.raises(DataFileGoneError, match=what):
        registry.check(dataset)


def test_a_registry_of_an_older_version_is_taken_over(tmp_path, table):
    path, status = tmp_path / "old.sqlite", table.stat()
    old = open_database(
        path, kind="registry", application_id=database._APPLICATION_ID, migrations=database._MIGRATIONS[:2]
    )
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    row = ("id-1", "heart", "tabular", '["heart"]', "heart disease", str(table), "{}", 2, "[2,3]", "[]")
    with transaction(old):
        old.execute(
            "INSERT INTO dataset VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (*row, status.st_size, status.st_mtime_ns, digest, 1.0),
        )
    old.close()

    registry = Registry(path)
    dataset = registry.find("heart")
    registry.check(dataset)
    registry.check(dataset, thorough=True)

    assert ((), 0, status.st_mtime_ns) == (dataset.classes, dataset.left_out, dataset.fingerprint.stamp)
    registry.close()


def test_a_changed_file_is_noticed(registry, table):
    dataset = add(registry, table)
    table.write_text(table.read_text() + "1,2,F\n")
    with pytest.raises(DataFileGoneError, match="has changed"):
        registry.check(dataset)


def test_a_file_that_is_gone_is_noticed(registry, table):
    dataset = add(registry, table)
    table.unlink()
    with pytest.raises(DataFileGoneError, match="has gone"):
        registry.check(dataset)


def test_a_very_wide_table_is_described_by_its_first_columns(registry, tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text(
        ",".join(f"gene{number}" for number in range(2500)) + "\n" + ",".join(["1"] * 2500) + "\n"
    )
    described = add(registry, path).describe()
    assert (2000, (1, 2500)) == (len(described.columns), described.shape)


def _add_one(folder, barrier, number):
    registry = Registry(folder / "registry.sqlite")
    barrier.wait(30)
    try:
        add(registry, folder / "t.csv", name=f"set {number}", tags=("same",))
    except TagsOverlapError:
        pass
    finally:
        registry.close()


def test_processes_that_register_the_same_tags_at_once_cannot_both_win(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    others = [context.Process(target=_add_one, args=(tmp_path, barrier, number)) for number in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    registry = Registry(tmp_path / "registry.sqlite")
    assert ([0, 0], 1) == ([other.exitcode for other in others], len(registry.list()))
    registry.close()


@given(st.lists(st.text(max_size=10), max_size=10))
def test_normalising_tags_twice_changes_nothing_more(tags):
    once = normalised(tags)
    assert once == normalised(once) == tuple(sorted(set(once)))
