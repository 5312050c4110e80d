"""What a node fetches is what the catalogue knows, over https alone; whatever fails, the folder is as it was."""

import gzip
import hashlib
import io
import json
import ssl
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from common.datasets import MnistDataset
from common.datasets.families.detection import detected
from common.errors import FetchError
from node.cli import app
from node.collections import Collection, collections
from node.fetching import fetch
from tests.support.certificates import make_authority


class Site:
    """A server on this machine that answers each path with what a test says."""

    def __init__(self, folder):
        authority = make_authority("site")
        issued = authority.issue("localhost")
        (folder / "server.pem").write_bytes(issued.cert_pem + issued.key_pem)
        (folder / "authority.pem").write_bytes(authority.cert_pem)
        self.authority = folder / "authority.pem"
        self.trust = ssl.create_default_context(cafile=str(self.authority))
        self.answers = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, headers, body = site.answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_side.load_cert_chain(folder / "server.pem")
        self._server.socket = server_side.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def url(self, path):
        return f"https://127.0.0.1:{self._server.server_port}{path}"

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.close()


@pytest.fixture
def site(server, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.answers.clear()
    return server


BODY = b"seven" * 1000


def one_file(site, body=BODY, **facts):
    site.answers.setdefault("/file", (200, {"Content-Length": str(len(body))}, body))
    file = {"name": "file.bin", "url": site.url("/file"), "most_bytes": len(BODY)} | facts
    if "md5" not in facts:
        file.setdefault("sha256", hashlib.sha256(body).hexdigest())
    return Collection.model_validate({"about": "a trial", "files": [file]})


def failing(site, folder, collection, **options):
    """Fetch in vain; return why, after making sure that nothing was left behind."""
    with pytest.raises(FetchError) as caught:
        fetch(collection, folder / "new", **{"tls": site.trust} | options)
    assert [] == list(folder.iterdir())
    return caught.value.facts["reason"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_a_file_comes_with_its_digest(site, folder):
    (found,) = fetch(one_file(site), folder / "deep" / "new", tls=site.trust)

    assert BODY == (folder / "deep" / "new" / "file.bin").read_bytes()
    assert ("file.bin", 5000, hashlib.sha256(BODY).hexdigest(), None) == (
        found.name, found.size_bytes, found.sha256, found.files,
    )  # fmt: skip
    assert ["new"] == [path.name for path in (folder / "deep").iterdir()]


def test_an_empty_folder_is_filled_and_one_with_anything_in_it_is_left_alone(site, folder):
    fetch(one_file(site), folder, tls=site.trust)
    (folder / "file.bin").write_bytes(b"mine")

    with pytest.raises(FetchError, match="the folder is not empty"):
        fetch(one_file(site), folder, tls=site.trust)

    assert b"mine" == (folder / "file.bin").read_bytes()


def test_md5_counts_where_nothing_better_is_known(site, folder):
    right = hashlib.md5(BODY, usedforsecurity=False).hexdigest()

    assert "its md5 is" in failing(site, folder, one_file(site, md5="0" * 32))
    (found,) = fetch(one_file(site, md5=right), folder / "new", tls=site.trust)
    assert hashlib.sha256(BODY).hexdigest() == found.sha256


def test_another_content_is_refused(site, folder):
    assert "its sha256 is" in failing(site, folder, one_file(site, sha256="0" * 64))


def test_more_than_is_allowed_is_neither_begun_nor_read_to_its_end(site, folder):
    assert "it has 5000 bytes, and 4999 are allowed" == failing(site, folder, one_file(site, most_bytes=4999))
    site.answers["/file"] = (200, {}, BODY)
    assert "it has more than 4999 bytes" == failing(site, folder, one_file(site, most_bytes=4999))


def test_a_body_that_ends_early_is_refused(site, folder):
    site.answers["/file"] = (200, {"Content-Length": "5000"}, BODY[:-1])

    assert "the connection ended early" == failing(site, folder, one_file(site))


@pytest.mark.parametrize("kind", ["http", "ftp", "file"])
def test_no_redirect_leads_away_from_https(site, folder, kind, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # would be asked for what goes over http
    place = folder.parent / "secret"
    place.write_bytes(BODY)
    url = {
        "http": site.url("/other").replace("https", "http"),
        "ftp": "ftp://localhost/x",
        "file": place.as_uri(),
    }[kind]
    site.answers["/file"] = (302, {"Location": url}, b"")

    reason = failing(site, folder, one_file(site))

    assert "unknown url type" in reason or "not allowed" in reason


def test_a_redirect_to_https_is_followed(site, folder):
    site.answers["/file"] = (302, {"Location": site.url("/other")}, b"")
    site.answers["/other"] = (200, {}, BODY)

    assert 5000 == fetch(one_file(site), folder / "new", tls=site.trust)[0].size_bytes


def test_a_server_of_an_unknown_authority_is_refused(site, folder):
    assert "CERTIFICATE_VERIFY_FAILED" in failing(site, folder, one_file(site), tls=None)


def test_what_the_server_says_is_told(site, folder):
    site.answers["/file"] = (503, {}, b"")
    assert "the server says 503 Service Unavailable" == failing(site, folder, one_file(site))


def test_files_that_were_carried_to_the_node_are_checked_alike(site, folder, tmp_path):
    (tmp_path / "stick").mkdir()
    collection = one_file(site)
    site.answers.clear()

    assert "No such file or directory" == failing(site, folder, collection, source=tmp_path / "stick")
    (tmp_path / "stick" / "file.bin").write_bytes(BODY[:-1] + b"m")
    assert "its sha256 is" in failing(site, folder, collection, source=tmp_path / "stick")
    (tmp_path / "stick" / "file.bin").write_bytes(BODY)
    assert 5000 == fetch(collection, folder / "new", source=tmp_path / "stick")[0].size_bytes


def test_if_one_file_fails_none_is_kept(site, folder):
    first, second = one_file(site).files[0], one_file(site, name="other.bin", sha256="0" * 64).files[0]

    assert "its sha256 is" in failing(site, folder, Collection(about="two", files=(first, second)))


# Archives


def member(name, content=b"pixels", **facts):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def archive(*members):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as made:
        for info, content in members:
            made.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def one_archive(site, body, most_bytes=100_000, most_files=5):
    site.answers["/file"] = (200, {}, body)
    unpack = {"below": "Scans", "most_bytes": most_bytes, "most_files": most_files}
    return one_file(site, body, most_bytes=len(body), unpack=unpack)


def test_an_archive_becomes_the_contents_of_its_folder(site, folder):
    body = archive(
        member("Scans", b"", type=tarfile.DIRTYPE),
        member("Scans/Hand/1.jpeg", mode=0o4777, uid=7),
        member("Scans/a.md"),
    )

    (found,) = fetch(one_archive(site, body), folder, tls=site.trust)

    assert (2, b"pixels") == (found.files, (folder / "Hand" / "1.jpeg").read_bytes())
    assert {"Hand", "a.md"} == {path.name for path in folder.iterdir()}
    assert 0 == (folder / "Hand" / "1.jpeg").stat().st_mode & 0o7000


HOSTILE = {
    "above": ([member("Scans/../../x")], "is not in Scans"),
    "absolute": ([member("/etc/x")], "is not in Scans"),
    "beside": ([member("Other/x")], "is not in Scans"),
    "link": ([member("Scans/x", b"", type=tarfile.SYMTYPE, linkname="/etc")], "neither a plain file nor a folder"),
    "hard link": ([member("Scans/x", b"", type=tarfile.LNKTYPE, linkname="Scans/y")], "neither a plain file"),
    "pipe": ([member("Scans/x", b"", type=tarfile.FIFOTYPE)], "neither a plain file"),
    "device": ([member("Scans/x", b"", type=tarfile.CHRTYPE)], "neither a plain file"),
    "twice": ([member("Scans/x"), member("Scans/x")], "names a file twice"),
    "file as folder": ([member("Scans/x"), member("Scans/x/y")], "names a file twice"),
    "folder as file": ([member("Scans", b"a")], "names a file twice"),
    "many": ([member(f"Scans/{number}") for number in range(6)], "more than 5 members"),
    "large": ([member("Scans/x", bytes(100_001))], "unpacks to more than it may"),
    "large header": ([member("Scans/x", pax_headers={"comment": "x" * 100_001})], "unpacks to more than it may"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_leaves_nothing_behind(site, folder, kind):
    members, reason = HOSTILE[kind]

    assert reason in failing(site, folder, one_archive(site, archive(*members)))
    assert not (folder.parent / "x").exists()


@pytest.mark.parametrize(
    "body",
    [b"no archive" * 99, archive(member("Scans/x"))[:-20], gzip.compress(b"no tar" * 999)],
    ids=["noise", "cut", "no tar"],
)
def test_a_damaged_archive_leaves_nothing_behind(site, folder, body):
    assert "it is damaged" == failing(site, folder, one_archive(site, body))


# The catalogue and the command


def test_every_file_of_the_catalogue_has_one_digest_and_a_bound():
    known = collections()

    assert ["mnist", "mednist"] == list(known)
    for wrong in (
        {"sha256": None},
        {"md5": "0" * 32},
        {"url": "http://x/y"},
        {"name": "../x"},
        {"most_bytes": 0},
    ):
        file = known["mnist"].files[0].model_dump() | wrong
        with pytest.raises(ValidationError):
            Collection.model_validate({"about": "wrong", "files": [file]})


def digits(count=20):
    images = (0x803).to_bytes(4) + count.to_bytes(4) + (28).to_bytes(4) * 2 + bytes(count * 784)
    labels = (0x801).to_bytes(4) + count.to_bytes(4) + bytes(number % 10 for number in range(count))
    return {
        "train-images-idx3-ubyte.gz": gzip.compress(images),
        "train-labels-idx1-ubyte.gz": gzip.compress(labels),
    }


def test_the_command_brings_what_a_data_set_can_be_made_of(site, folder, monkeypatch):
    bodies = digits()
    site.answers |= {f"/{name}": (200, {}, body) for name, body in bodies.items()}
    files = [
        {
            "name": name,
            "url": site.url(f"/{name}"),
            "most_bytes": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        for name, body in bodies.items()
    ]
    mine = {"mnist": Collection.model_validate({"about": "twenty digits", "files": files})}
    monkeypatch.setattr("node.collections.collections", lambda: mine)
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))

    result = CliRunner().invoke(app, ["dataset", "fetch", "mnist", str(folder / "mnist"), "--json"])

    assert list(bodies) == [file["name"] for file in json.loads(result.stdout)["files"]]
    assert "mnist" == detected(folder / "mnist")
    dataset = MnistDataset()
    dataset.bind(folder / "mnist", {})
    assert (20, 3) == (len(dataset), dataset[13][1])


def test_an_unknown_collection_is_named(folder):
    result = CliRunner().invoke(app, ["dataset", "fetch", "imagenet", str(folder), "--json"])

    assert 1 == result.exit_code
    assert (
        "imagenet cannot be fetched: it is not known; there are mnist, mednist"
        == json.loads(result.stdout)["error"]["text"]
    )
