"""What a worker leaves is taken without trusting it."""

import os
import stat

import pytest

from common.errors import TaskRefusedError, WorkerFaultError
from common.ids import PartyId
from node.worker.folder import RunFolder
from node.worker.protocol import HANDED_BYTES

NORTH = PartyId("north")


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "work" / "run")
    made.make()
    return made


def test_only_the_agents_user_may_enter(folder):
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder.path, folder.inputs, folder.scratch)}

    assert {0o700} == modes


def test_a_folder_is_made_without_what_was_left_in_it(folder):
    (folder.scratch / "torch.py").write_text("planted")
    (folder.scratch / "deep").mkdir(mode=0o000)

    folder.make()

    assert [] == [*folder.scratch.iterdir(), *folder.inputs.iterdir()]


def test_only_the_agents_user_may_read_what_is_taken(folder):
    (folder.scratch / "state").write_bytes(b"own")
    (folder.scratch / "state").chmod(0o666)

    assert 0o600 == stat.S_IMODE(folder.take("state", NORTH, 100).stat().st_mode)


@pytest.mark.parametrize("form", ["bytes", "file"])
def test_what_is_placed_is_another_file_each_time(folder, tmp_path, form):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    with folder.place("model", first if form == "file" else b"one").open("rb") as mapped:
        path = folder.place("model", second if form == "file" else b"two")

        assert (b"one", b"two") == (mapped.read(), path.read_bytes())
    assert [path] == list(folder.inputs.iterdir())
    assert b"one" == first.read_bytes()


def test_a_file_is_placed_without_copying_it(folder, tmp_path):
    model = tmp_path / "model"
    model.write_bytes(b"large")

    assert model.samefile(folder.place("model", model))


def test_what_is_small_is_no_file(folder, tmp_path):
    (tmp_path / "model").write_bytes(b"large")
    few, many = bytes(HANDED_BYTES), bytes(HANDED_BYTES + 1)

    assert few is folder.handed("model", few)
    assert [] == list(folder.inputs.iterdir())
    assert many == folder.handed("model", many).read_bytes()
    assert (tmp_path / "model").samefile(folder.handed("model", tmp_path / "model"))


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_what_is_taken_is_whole_and_gone_from_the_scratch_folder(folder, size):
    content = bytes(index % 251 for index in range(size))
    (folder.scratch / "update").write_bytes(content)

    taken = folder.take("update", NORTH, 3_000_000)

    assert content == taken.read_bytes()
    assert [] == list(folder.scratch.iterdir())


def test_who_still_holds_a_file_open_cannot_change_what_was_taken(folder):
    honest = b"honest"
    with (folder.scratch / "update").open("wb", buffering=0) as held:
        held.write(honest)
        taken = folder.take("update", NORTH, len(honest))
        held.seek(0)
        held.write(b"forged")

    assert honest == taken.read_bytes()


def test_a_file_system_that_cannot_copy_by_itself_is_no_hindrance(folder, monkeypatch):
    def refuse(*_arguments):
        raise OSError(18, "cross-device")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    honest = b"honest"
    (folder.scratch / "update").write_bytes(honest)

    assert honest == folder.take("update", NORTH, len(honest)).read_bytes()


def test_what_is_larger_than_allowed_is_refused(folder):
    (folder.scratch / "update").write_bytes(bytes(101))

    with pytest.raises(TaskRefusedError, match="101 bytes exceeds its limit of 100"):
        folder.take("update", NORTH, 100)
    assert not (folder.path / "update").exists()


def nothing(path, secret):
    pass


def link(path, secret):
    path.symlink_to(secret)


def pipe(path, secret):
    os.mkfifo(path)


def directory(path, secret):
    path.mkdir()


@pytest.mark.parametrize("left", [nothing, link, pipe, directory])
def test_what_is_no_file_is_refused_without_waiting_or_following(folder, tmp_path, left):
    secret = tmp_path / "secret"
    secret.write_text("key")
    left(folder.scratch / "update", secret)

    with pytest.raises(WorkerFaultError):
        folder.take("update", NORTH, 100)
    assert "key" == secret.read_text()
