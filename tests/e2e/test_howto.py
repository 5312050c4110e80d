"""The pages for newcomers can be followed word for word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path

import pytest

from common.data import DataManager
from common.training_plans.source import plan_hash, plan_source
from deploy.demo.hospitals import hospitals, write_csv
from deploy.ports import free_port
from researcher.experiment_file import ExperimentFile, import_plan
from tests.support.tasks import DATASET, Desk

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("forked_processes")]

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to"
DEADLINE_S = 300


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page that are in a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


class Newcomer:
    """Somebody who has the project in a folder and types what the pages say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = str(free_port())
        self.hash = "HASH"
        self.exports: list[str] = []
        self.said = ""
        (folder / "docs").symlink_to(ROOT / "docs")
        (folder / ".venv").symlink_to(sys.prefix)

    def types(self, block: str) -> str:
        """Run one block, with what was exported before, and return what it prints."""
        block = block.replace("5671", self.port).replace("HASH", self.hash[:12])
        script = "\n".join(["set -euo pipefail", *self.exports, block])
        self.exports += [line for line in block.splitlines() if line.startswith("export ")]
        done = subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=self.folder,
            env={**os.environ, "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        self.said = done.stdout
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def starts(self, block: str, ready: str) -> subprocess.Popen[str]:
        """Run one block in a terminal of its own, until it says that it is ready."""
        process = subprocess.Popen(
            ["/bin/bash", "-c", "\n".join([*self.exports, f"exec {block}"])],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if ready in line:
                return process
        raise AssertionError(f"{block} ended without saying {ready!r}")

    def runs(self, name: str, script: str, **environment: str) -> str:
        """Run Python beside the example plan, and return what it prints."""
        file = self.folder / "scripts" / name
        file.parent.mkdir(exist_ok=True)
        if not (file.parent / "heart_plan.py").exists():
            (file.parent / "heart_plan.py").symlink_to(ROOT / "docs" / "examples" / "heart_plan.py")
        file.write_text(script)
        done = subprocess.run(
            [sys.executable, str(file)],
            cwd=file.parent,
            env={**os.environ, "WARREN_HOME": str(self.folder / "lab"), **environment},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout


def approve_readme(newcomer: Newcomer) -> None:
    """Let both nodes approve the plan of the README, as their people would."""
    definition = blocks(ROOT / "README.md", "python")[0].partition("\nexperiment = ")[0]
    file = newcomer.folder / "readme_plan.py"
    file.write_text(definition)
    (newcomer.folder / "approved.py").write_text(plan_source(import_plan(file, "HeartPlan")))
    for node in ("cleveland", "hungary"):
        newcomer.types(f"warren-node plan approve nodes/{node} --file approved.py")


@pytest.mark.broker
@pytest.mark.long
def test_the_pages_can_be_followed_word_for_word(tmp_path):
    newcomer = Newcomer(tmp_path)
    path, make, broker, data, first, second, look, ask, decide, decide_too, train, end = blocks(
        HOW_TO / "set-up-a-federation.md", "sh"
    )
    with ExitStack() as cleanup:
        newcomer.types(path)
        newcomer.types(make)
        process = newcomer.starts(broker.strip(), "The broker runs")
        cleanup.enter_context(process)
        cleanup.callback(process.terminate)
        newcomer.types(data)
        cleanup.callback(newcomer.types, "warren-node stop nodes/cleveland; warren-node stop nodes/hungary")
        newcomer.types(first)
        newcomer.types(second)

        said = newcomer.types(look)
        assert re.search(r"^cleveland +online ", said, re.MULTILINE)
        assert re.search(r"^hungary +online ", said, re.MULTILINE)
        assert re.search(r"^cleveland +heart +tabular +heart, uci +303 x 15 +age, sex", said, re.MULTILINE)

        newcomer.hash = re.search(r"plan ([0-9a-f]{64})", newcomer.types(ask))[1]
        assert "pending" in newcomer.said
        assert not (tmp_path / "lab" / "experiments").exists() or not any(
            (tmp_path / "lab" / "experiments").iterdir()
        )
        assert "class HeartPlan" in newcomer.types(decide)
        newcomer.types(decide_too)
        assert "finished" in newcomer.types(train)
        assert (tmp_path / "model.safetensors").is_file()

        script = "\n".join(blocks(HOW_TO / "experiments.md", "python"))
        assert "train" in newcomer.runs("experiment.py", script)

        approve_readme(newcomer)
        newcomer.runs("readme.py", blocks(ROOT / "README.md", "python")[0])
        assert (tmp_path / "scripts" / "model.safetensors").is_file()

        for block in blocks(HOW_TO / "run-a-node.md", "sh"):
            newcomer.types(block)
        assert "agent starts" in newcomer.said

        newcomer.types(end)
        assert "cleveland" in newcomer.types("warren federation show trial")


def test_the_plan_of_its_page_trains_on_the_data_of_the_demo(tmp_path, monkeypatch):
    definition, use = blocks(HOW_TO / "training-plans.md", "python")
    file = tmp_path / "plan.py"
    file.write_text(definition)
    plan = import_plan(file, "CholesterolPlan")
    write_csv(hospitals()["hungary"], tmp_path / "hungary.csv")

    made = plan()
    arguments = {"num_updates": 5, "random_seed": 1, "optimizer_args": {"lr": 0.1}, "test_ratio": 0.2}
    desk = Desk(tmp_path, plan)
    desk.write_model(hidden=4)
    from node.worker.protocol import DatasetSource
    from node.worker.session import Session

    source = DatasetSource(
        dataset_id=DATASET,
        data_type="tabular",
        path=str(tmp_path / "hungary.csv"),
        parameters={},
    )
    task = desk.task(args=arguments, model_args={"hidden": 4}, dataset=source)
    done = Session().run(task, lambda progress: None).done

    assert isinstance(made.training_data(), DataManager)
    assert (5 * 32, 261) == (done.samples_seen, done.samples_train + done.samples_test)
    printed = subprocess.run(
        [sys.executable, "-c", f"from plan import CholesterolPlan\n{use}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert plan_hash(plan_source(plan)) == printed.strip()


def test_the_experiment_file_of_its_page_is_valid():
    (block,) = blocks(HOW_TO / "experiments.md", "toml")

    described = ExperimentFile.model_validate(tomllib.loads(block))

    assert ("cleveland", "hungary") == described.nodes
    assert 15 == described.rounds
