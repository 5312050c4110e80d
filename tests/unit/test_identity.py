import base64
import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from common.errors import DiskFullError, KitError
from common.ids import PartyId
from common.security import files
from common.security.identity import SEALING, SIGNING, Identity

NORTH = PartyId("north")


@pytest.fixture
def saved(tmp_path):
    Identity.generate(NORTH).save(tmp_path)
    return tmp_path


def reason(folder):
    with pytest.raises(KitError) as caught:
        Identity.load(folder, NORTH)
    return caught.value.facts["reason"]


def test_saved_keys_come_back_the_same(tmp_path):
    identity = Identity.generate(NORTH)
    identity.save(tmp_path)
    assert Identity.load(tmp_path, NORTH).public == identity.public


def test_two_parties_never_get_the_same_keys():
    assert Identity.generate(NORTH).public != Identity.generate(NORTH).public


def test_key_files_are_readable_by_the_owner_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        Identity.generate(NORTH).save(tmp_path)
    finally:
        os.umask(before)
    assert {SIGNING: 0o600, SEALING: 0o600} == {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()
    }


def test_a_key_file_is_private_from_the_moment_it_exists(tmp_path, monkeypatch):
    modes = []
    fsync = os.fsync

    def look(descriptor):
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    Identity.generate(NORTH).save(tmp_path)
    assert modes
    assert {0o600} == set(modes)


def test_keys_never_show_in_the_repr():
    assert "Identity(party='north')" == repr(Identity.generate(NORTH))


@pytest.mark.parametrize("name", [SIGNING, SEALING])
def test_a_missing_key_is_named(saved, name):
    (saved / name).unlink()
    assert f"{name} is missing" == reason(saved)


@pytest.mark.parametrize("name", [SIGNING, SEALING])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_garbled_key_is_refused(saved, name, content):
    (saved / name).write_bytes(content)
    assert f"{name} holds no readable private key" == reason(saved)


def test_a_key_too_short_for_its_kind_is_refused(saved):
    der = bytes.fromhex("302e020100300506032b656f04220420") + bytes(32)  # X448 with the length of X25519
    pem = b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(der) + b"\n-----END PRIVATE KEY-----\n"
    (saved / SEALING).write_bytes(pem)
    assert "sealing.pem holds no readable private key" == reason(saved)


def test_a_key_of_another_kind_is_refused(saved):
    (saved / SIGNING).write_bytes((saved / SEALING).read_bytes())
    assert "signing.pem holds no Ed25519 key" == reason(saved)


def test_a_tls_key_in_place_of_a_sealing_key_is_refused(saved):
    key = ec.generate_private_key(ec.SECP256R1())
    (saved / SEALING).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert "sealing.pem holds no X25519 key" == reason(saved)


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(saved):
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (saved / SIGNING).write_bytes(pem)
    assert "signing.pem is protected by a passphrase, and WARREN_PASSPHRASE_FILE names no file" == reason(
        saved
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
def test_a_key_that_others_can_reach_is_refused_with_the_command_to_run(saved, mode):
    (saved / SIGNING).chmod(mode)
    assert f"signing.pem is open to other users; run `chmod 600 {saved / SIGNING}`" == reason(saved)


def test_a_key_that_is_stricter_than_needed_is_accepted(saved):
    (saved / SIGNING).chmod(0o400)
    assert NORTH == Identity.load(saved, NORTH).party


def test_a_pipe_in_place_of_a_key_is_refused_at_once(saved):
    (saved / SIGNING).unlink()
    os.mkfifo(saved / SIGNING, 0o600)
    assert "signing.pem is not a regular file" == reason(saved)


def test_a_folder_in_place_of_a_key_is_refused(saved):
    (saved / SIGNING).unlink()
    (saved / SIGNING).mkdir(0o700)
    assert "signing.pem is not a regular file" == reason(saved)


def test_a_huge_key_file_is_refused_without_reading_it_all(saved):
    with (saved / SIGNING).open("wb") as file:
        file.truncate(1 << 40)
    assert f"signing.pem is larger than {files.PART_BYTES} bytes" == reason(saved)


def test_keys_cannot_be_saved_where_there_is_no_folder(tmp_path):
    with pytest.raises(KitError, match=r"signing\.pem cannot be written"):
        Identity.generate(NORTH).save(tmp_path / "absent")


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    files.write_atomic(path, b"old")
    full = OSError(28, "No space left on device")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(full))
        with pytest.raises(DiskFullError):
            files.write_atomic(path, b"new")
    assert b"old" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    files.write_atomic(path, b"old")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            files.write_atomic(path, b"new")
    assert b"old" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_what_killed_writers_left_goes_with_the_next_write_of_the_only_writer(tmp_path):
    left, other = tmp_path / ".status.json.0123456789abcdef", tmp_path / ".policy.toml.0123456789abcdef"
    left.write_bytes(b"half")
    other.write_bytes(b"being written")

    files.write_atomic(tmp_path / "status.json", b"whole", alone=True)

    assert {tmp_path / "status.json", other} == set(tmp_path.iterdir())
