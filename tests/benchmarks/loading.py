"""How fast data sets give their samples, as a share of what a plain loop over the same library gives."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, Final

import nibabel
import numpy as np
import polars as pl
import pyedflib
import torch
from PIL import Image
from rich.table import Table

from common.data import DataManager
from common.datasets import ImageFolderDataset, MedicalFolderDataset, SignalDataset, TabularDataset
from common.datasets.base import Dataset
from tests.support.recordings import wfdb, write_record, write_recording

BATCH: Final = 32
PATCH: Final = (32, 32, 32)
RATE: Final = 256
WINDOW_S: Final = 10
LEAST: Final = 0.8
"""The share that every loader must reach."""

Pass = Callable[[], Iterable[Any]]


def run(*, quick: bool) -> tuple[dict[str, Any], Table]:
    """Measure passes over a table, images, patches of volumes and windows of recordings, ours and the plain loop in turn."""
    size = 1 if quick else 4
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as folder:
        root = Path(folder)
        found = {
            "table, read anew": _measured(*_table(root / "table.csv", 50_000 * size, anew=True)),
            "table": _measured(*_table(root / "table.csv", 50_000 * size, anew=False)),
            "images": _measured(*_images(root / "images", 500 * size)),
            "patches": _measured(*_patches(root / "study", 50 * size)),
            "windows of EDF": _measured(*_windows(root / "edf", ".edf", 50 * size)),
            "windows of WFDB": _measured(*_windows(root / "wfdb", ".hea", 50 * size)),
        }
    table = Table(
        "data", "samples", "ours/s", "plain/s", "share", title=f"Samples per second, batches of {BATCH}"
    )
    for name, one in found.items():
        table.add_row(
            name, f"{one['samples']}", f"{one['ours']:.0f}", f"{one['plain']:.0f}", f"{one['share']:.2f}"
        )
    return {"least": LEAST, **found}, table


def _measured(samples: int, ours: Pass, plain: Pass, turns: int = 7) -> dict[str, float]:
    """Return the medians of several passes; each pair is measured side by side, because the machine has other work too."""
    for one in (ours, plain):
        _seconds(one)
    pairs = [(_seconds(ours), _seconds(plain)) for _ in range(turns)]
    return {
        "samples": samples,
        "ours": samples / median(pair[0] for pair in pairs),
        "plain": samples / median(pair[1] for pair in pairs),
        "share": median(theirs / mine for mine, theirs in pairs),
    }


def _seconds(one: Pass) -> float:
    started = time.perf_counter()
    for _ in one():
        pass
    return time.perf_counter() - started


def _ours(dataset: Dataset, path: Path) -> Pass:
    """Return a pass of ours: a data set is bound once, as a warm worker does."""
    manager = DataManager(dataset, batch_size=BATCH)
    manager.bind(path, {})
    parts = manager.split(test_ratio=0.0, seed=1)
    return lambda: parts.train


def _table(path: Path, rows: int, *, anew: bool) -> tuple[int, Pass, Pass]:
    """Return passes over a table in memory, as in all rounds but a worker's first, or read anew for each of them."""
    rng = np.random.default_rng(0)
    columns = [f"x{number}" for number in range(20)]
    frame = pl.DataFrame({name: rng.normal(size=rows) for name in columns})
    frame.with_columns(pl.Series("y", rng.integers(0, 2, rows))).write_csv(path)

    def read() -> tuple[torch.Tensor, torch.Tensor]:
        found = pl.read_csv(path)
        data = torch.from_numpy(found.select(columns).to_numpy().astype(np.float32))
        return data, torch.from_numpy(found["y"].to_numpy().copy())

    def plain() -> Iterable[Any]:
        data, target = read() if anew else kept
        for chosen in torch.randperm(len(data)).split(BATCH):
            yield data[chosen], target[chosen]

    def ours() -> Iterable[Any]:
        return _ours(TabularDataset(columns, "y"), path)() if anew else warm()

    kept, warm = read(), _ours(TabularDataset(columns, "y"), path)
    return rows, ours, plain


def _images(root: Path, count: int) -> tuple[int, Pass, Pass]:
    rng = np.random.default_rng(0)
    files = [root / "ab"[number % 2] / f"{number}.png" for number in range(count)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(file)

    def read(file: Path) -> torch.Tensor:
        with Image.open(file) as image:
            return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).astype(np.float32) / 255)

    def plain() -> Iterable[Any]:
        for start in range(0, count, BATCH):
            some = files[start : start + BATCH]
            yield (
                torch.stack([read(file) for file in some]),
                torch.tensor([file.parent.name == "b" for file in some]),
            )

    return count, _ours(ImageFolderDataset(), root), plain


def _patches(root: Path, count: int) -> tuple[int, Pass, Pass]:
    rng = np.random.default_rng(0)
    volume = nibabel.Nifti1Image(rng.normal(size=(64, 64, 64)).astype(np.float32), np.eye(4))
    files = [root / f"sub-{number:04}" / "T1" / "t1.nii" for number in range(count)]
    for file in files:
        file.parent.mkdir(parents=True)
        nibabel.save(volume, file)

    def read(file: Path) -> torch.Tensor:
        starts = np.random.default_rng().integers(0, 33, 3)
        where = tuple(slice(start, start + length) for start, length in zip(starts, PATCH, strict=True))
        return torch.from_numpy(np.asarray(nibabel.load(file).dataobj[where], np.float32))[None, None]

    def plain() -> Iterable[Any]:
        for start in range(0, count, BATCH):
            some = [read(file) for file in files[start : start + BATCH]]
            yield torch.stack(some), torch.stack([read(file) for file in files[start : start + BATCH]])

    return count, _ours(MedicalFolderDataset("T1", "T1", patch=PATCH), root), plain


def _windows(root: Path, suffix: str, count: int) -> tuple[int, Pass, Pass]:
    """Return passes over recordings of two minutes: three windows of two channels."""
    rng = np.random.default_rng(0)
    channels = {name: (RATE, rng.normal(size=120 * RATE)) for name in ("Fpz", "Cz")}
    write = write_recording if suffix == ".edf" else write_record
    files = [root / "all" / f"{number:04}{suffix}" for number in range(count)]
    for file in files:
        write(file, channels)
    starts = [round(start * RATE) for start in np.linspace(0, 120 - WINDOW_S, 3)]
    length = WINDOW_S * RATE

    def windows(file: Path) -> list[Any]:
        if suffix == ".hea":
            name = str(file.with_suffix(""))
            return [wfdb.rdrecord(name, sampfrom=start, sampto=start + length).p_signal.T for start in starts]
        reader = pyedflib.EdfReader(str(file))
        try:
            return [[reader.readSignal(index, start, length) for index in (0, 1)] for start in starts]
        finally:
            reader.close()

    def plain() -> Iterable[Any]:
        for start in range(0, count, BATCH):
            some = [np.array(windows(file), np.float32) for file in files[start : start + BATCH]]
            yield torch.from_numpy(np.stack(some)), torch.zeros(len(some), dtype=torch.int64)

    dataset = SignalDataset(["Fpz", "Cz"], rate=RATE, window_s=WINDOW_S, windows=3)
    return count, _ours(dataset, root), plain
