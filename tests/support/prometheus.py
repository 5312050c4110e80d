"""Run a private Prometheus of the system's packages, and ask it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

from deploy.ports import free_port

ROOT = Path(__file__).parents[2]
DEPLOYED = ROOT / "deploy" / "prometheus"
DEADLINE_S = 60.0


def program(name):
    """Return where a program of Prometheus is; where there is none the test fails, for a skip would pass for a kept promise."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is missing; `make prometheus` installs it", pytrace=False)
    return path


def read(url, *, login=None, context=None):
    """Return what a server answers, given this `name:password`."""
    basic = {} if login is None else {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    request = urllib.request.Request(url, headers=basic)  # noqa: S310 - a server of the test
    with urllib.request.urlopen(request, timeout=DEADLINE_S, context=context) as answer:  # noqa: S310
        return answer.read()


class Prometheus:
    """A server with the configuration that is deployed, save for where it looks and how often."""

    def __init__(self, folder, targets, login):
        """Begin to collect from the targets of each job."""
        self.port = free_port()
        configuration = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
        configuration["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
        shutil.copy(DEPLOYED / "alerts.yml", folder)
        password = folder / "password"
        password.write_text(login.partition(":")[2])
        jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
        for name, addresses in targets.items():
            job = jobs.setdefault(name, {"job_name": name})
            job["static_configs"] = [{"targets": addresses}]
            if "basic_auth" in job:
                job["basic_auth"]["password_file"] = str(password)
        configuration["scrape_configs"] = list(jobs.values())
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    "--config.file=prometheus.yml",
                    "--storage.tsdb.path=data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self):
        self._process.terminate()
        self._process.wait(DEADLINE_S)

    def call(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        """Return every series of a PromQL expression as labels and value."""
        found = self.call("query", query=expression)["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def by(self, label, expression):
        """Return the values of an expression by one label."""
        return {labels[label]: value for labels, value in self.query(expression)}

    def until(self, holds):
        """Wait until something is so of the server, and return it."""
        pause, end = threading.Event(), time.monotonic() + DEADLINE_S
        while True:
            try:
                found = holds(self)
            except (urllib.error.URLError, ConnectionError):
                found = None  # it is not up yet
            if found or time.monotonic() > end:
                assert found, "Prometheus never saw it"
                return found
            pause.wait(0.1)
