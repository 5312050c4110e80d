"""Write small EDF recordings with pyedflib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyedflib


def write_recording(
    path: Path,
    channels: Mapping[str, tuple[float, np.ndarray]],
    *,
    notes: Sequence[tuple[float, float, str]] = (),
    patient: str | None = None,
    plain: bool = False,
) -> Path:
    """Write an EDF+ or a plain EDF file: by label, the rate and the values of each channel in uV; and annotations (onset, duration, text)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pyedflib.FILETYPE_EDF if plain else pyedflib.FILETYPE_EDFPLUS
    writer = pyedflib.EdfWriter(str(path), len(channels), file_type=kind)
    try:
        if patient is not None:
            writer.setPatientName(patient)
        writer.setSignalHeaders(
            [
                {
                    "label": label,
                    "dimension": "uV",
                    "sample_frequency": rate,
                    "physical_max": 100.0,
                    "physical_min": -100.0,
                    "digital_max": 32767,
                    "digital_min": -32768,
                    "transducer": "",
                    "prefilter": "",
                }
                for label, (rate, _) in channels.items()
            ]
        )
        writer.writeSamples([values for _, values in channels.values()])
        for onset, duration, text in notes:
            writer.writeAnnotation(onset, duration, text)
    finally:
        writer.close()
    return path
