"""Write small EDF recordings with pyedflib, and WFDB records with wfdb."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyedflib

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it uses what pandas calls outdated
    import wfdb


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


def write_record(
    path: Path,
    channels: Mapping[str, tuple[float, np.ndarray]],
    *,
    notes: Sequence[tuple[float, str, str]] = (),
    form: str = "16",
    unit: str = "mV",
    comments: Sequence[str] = (),
) -> Path:
    """Write a WFDB record: by label, the rate and the values of each channel, whose rates are multiples of the first; and annotations (onset, mark, text)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = next(iter(channels.values()))[0]
    name, folder, count = path.stem, str(path.parent), len(channels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrsamp(
            name,
            fs=rate,
            units=[unit] * count,
            sig_name=list(channels),
            e_d_signal=[np.round(values * 100).astype(np.int64) for _, values in channels.values()],
            samps_per_frame=[round(each / rate) for each, _ in channels.values()],
            fmt=[form] * count,
            adc_gain=[100.0] * count,
            baseline=[0] * count,
            comments=list(comments),
            write_dir=folder,
        )
        if notes:
            samples = np.array([round(onset * rate) for onset, _, _ in notes])
            marks, texts = [mark for _, mark, _ in notes], [text for _, _, text in notes]
            wfdb.wrann(name, "atr", samples, symbol=marks, aux_note=texts, fs=rate, write_dir=folder)
    return path
