"""Take the pictures of the documentation from real runs: `python -m tests.support.screenshots FOLDER`.

Needs RabbitMQ, Prometheus and Chromium. An experiment runs at four hospitals while Prometheus reads it; then the demo runs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from rich.console import Console

from deploy.cli import app
from researcher.monitoring import RoundOpened, TerminalView
from researcher.page import html_of
from tests.support.prometheus import ROOT
from tests.support.watched import watched

ROUNDS = 150
LOADED_MS = 15_000
"""So much time a page is given, by its own clock, to load what it shows."""
_COLOURS = 64
"""As many as a page of text needs; it keeps the files small."""
SETTINGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


class Picture(TerminalView):
    """A live view that keeps what it shows in the middle of the run."""

    def __init__(self):
        super().__init__(Console(quiet=True))
        self.html = ""

    def on_event(self, event):
        if isinstance(event, RoundOpened) and event.round == ROUNDS // 2:
            self.html = html_of(self._render())
        super().on_event(event)


def shoot(url, path, *, width=1100, height=700):
    """Take a picture of a page."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
    with TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                *SETTINGS,
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                f"--virtual-time-budget={LOADED_MS}",
                f"--screenshot={path}",
                url,
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(_COLOURS).save(path, optimize=True)
    print(path, path.stat().st_size)  # noqa: T201 - a program


def query_of(dashboard, title):
    """Return the first query of a panel, for all experiments and nodes."""
    document = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / f"{dashboard}.json").read_text())
    (panel,) = (one for one in document["panels"] if one["title"] == title)
    values = {one["name"]: one["allValue"] for one in document["templating"]["list"]}
    values["__rate_interval"] = "15s"
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], panel["targets"][0]["expr"])


def main(images):
    """Take all pictures."""
    images.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        folder, view = Path(name), Picture()
        (folder / "world").mkdir()
        with watched(folder / "world", rounds=ROUNDS, observers=(view,)) as found:
            # the pages that Debian's Prometheus has
            site = f"http://127.0.0.1:{found.prometheus.port}/classic"
            shoot(f"{site}/targets", images / "prometheus-targets.png", height=860)
            shoot(f"{site}/alerts", images / "prometheus-alerts.png", height=780)
            for dashboard, title, file in (
                ("warren-experiment", "Loss of each node", "prometheus-loss.png"),
                ("warren-experiment", "Samples per second", "prometheus-samples.png"),
            ):
                asked = {"g0.expr": query_of(dashboard, title), "g0.tab": "0", "g0.range_input": "1m"}
                shoot(f"{site}/graph?{urllib.parse.urlencode(asked)}", images / file, height=900)
        (folder / "live.html").write_text(f"<body style='font-size: 15px; margin: 16px'>{view.html}</body>")
        shoot((folder / "live.html").as_uri(), images / "live-view.png", width=800, height=160)
        app(["demo", "--out", str(folder / "demo"), "--quiet"], standalone_mode=False)
        shoot((folder / "demo" / "report.html").as_uri(), images / "report.png", width=1280, height=1350)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
