"""The wheel holds everything, and its programs run where the source is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("common", "node", "researcher", "deploy")
DEADLINE_S = 110
AROUND = {"docker", "grafana", "host", "prometheus", "rabbitmq", "systemd"}
"""Folders of `deploy` for those who have the source."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", source, "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The programs of the wheel in an environment of its own, which borrows the libraries of this one."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=DEADLINE_S)
    pip("--python", folder / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # Listed like this, the start-up files of that folder are not read: an editable install there stays out.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr


def told(program, *arguments):
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE_S, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_module_and_every_data_file(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not AROUND & set(path.parts)
    }

    assert set() == wanted - held
    assert {"common/py.typed", "researcher/schema.sql", "deploy/demo/data/split.json"} <= held
    assert {name.split("/")[0] for name in held if ".dist-info" not in name} == set(PACKAGES)


def test_its_metadata_state_versions_and_extras(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
    metadata = HeaderParser().parsestr(archive.read(name).decode())

    assert (project["name"], project["version"]) == (metadata["Name"], metadata["Version"])
    assert "Apache-2.0" == metadata["License-Expression"]
    assert set(project["optional-dependencies"]) == set(metadata.get_all("Provides-Extra"))


def test_every_extra_is_explained_to_people():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    readme = (ROOT / "README.md").read_text()

    assert [] == [extra for extra in project["optional-dependencies"] if f"| `{extra}` |" not in readme]


def test_its_programs_work_without_the_source(installed, tmp_path):
    where = told(installed / "python", "-c", "import common, researcher.ledger; print(common.__file__)")
    assert where.startswith(str(installed.parent))

    assert json.loads(told(installed / "warren", "errors", "--json"))["errors"]
    assert 4 == len(json.loads(told(installed / "warren", "data", tmp_path / "data", "--json"))["files"])
    told(installed / "warren", "federation", "init", tmp_path / "trial", "--port", "0")
    for role, party in (("node", "north"), ("researcher", "lab")):
        told(installed / "warren", "federation", f"add-{role}", tmp_path / "trial", party)
    kits = tmp_path / "trial" / "kits"
    told(installed / "warren-node", "init", tmp_path / "north", "--kit", kits / "north")
    options = [
        "--path",
        tmp_path / "data" / "va.csv",
        "--name",
        "heart",
        "--tags",
        "heart",
        "--description",
        "heart",
    ]
    added = json.loads(
        told(installed / "warren-node", "dataset", "add", tmp_path / "north", *options, "--json")
    )
    assert 130 == added["samples"]
    told(installed / "warren-researcher", "init", tmp_path / "lab", "--kit", kits / "lab")
    listed = told(installed / "warren-researcher", "experiments", "--home", tmp_path / "lab", "--json")
    assert {"experiments": []} == json.loads(listed)
