"""Show the metrics of a researcher's process, of its experiments, and of the nodes, which nobody else can reach."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Final

from common import metrics
from common.exporter import Exporter, ExporterSettings
from common.settings import validate
from researcher.home import Home
from researcher.hub import Hub
from researcher.monitoring.figures import ExperimentFigures
from researcher.monitoring.telemetry import NodesCollector

_PREFIX: Final = "WARREN_METRICS_"


def settings_in(environment: Mapping[str, str] = os.environ) -> ExporterSettings | None:
    """Return where metrics can be read, as `WARREN_METRICS_PORT`, `_ADDRESS`, `_LOGIN`, `_CERTIFICATE` and `_KEY` say.

    None without a port.

    Raises:
        InvalidSettingsError: If one of them is wrong.
    """
    names = {f"{_PREFIX}{name.upper()}": name for name in ExporterSettings.model_fields}
    found = {name: environment[variable] for variable, name in names.items() if environment.get(variable)}
    return validate(found, ExporterSettings, source=f"{_PREFIX}*") if "port" in found else None


class ResearcherExporter:
    """Serves metrics until `close`."""

    def __init__(self, settings: ExporterSettings, hub: Hub, figures: ExperimentFigures, home: Home) -> None:
        """Begin to serve.

        Raises:
            InvalidSettingsError: If login, certificate or key cannot be used.
            PortTakenError: If the port cannot be used.
        """
        self._exporter = Exporter(settings, hub.health)
        metrics.DISK_FREE.set_function(lambda: shutil.disk_usage(home.path).free)
        self._collectors = (figures, NodesCollector(hub.statuses))
        for collector in self._collectors:
            metrics.REGISTRY.register(collector)

    @property
    def port(self) -> int:
        """Return the port that is served."""
        return self._exporter.port

    def close(self) -> None:
        """Serve no more."""
        for collector in self._collectors:
            metrics.REGISTRY.unregister(collector)
        self._exporter.close()
