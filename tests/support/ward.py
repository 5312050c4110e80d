"""Write the data folder of a small hospital: one set of each family, each large enough to be seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from deploy.demo.hospitals import hospitals, write_csv
from tests.support.cohorts import write_people, write_vcf
from tests.support.recordings import write_recording
from tests.support.volumes import write_volume

_SIDE = 32


def write_ward(folder: Path) -> Path:
    """Write `heart.csv`, which is real, and the folders `smears`, `brains`, `ecg` and `genomes`, which are made up."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    write_csv(hospitals()["cleveland"], folder / "heart.csv")
    _write_smears(folder / "smears", draw)
    _write_brains(folder / "brains")
    _write_ecg(folder / "ecg", draw)
    _write_genomes(folder / "genomes", draw)
    return folder


def _write_smears(folder: Path, draw: np.random.Generator) -> None:
    """Write cells with small and with large nuclei."""
    y, x = np.mgrid[:_SIDE, :_SIDE] - _SIDE / 2
    for name, size in {"healthy": 5, "ill": 10}.items():
        (folder / name).mkdir(parents=True)
        for number in range(6):
            shift = draw.normal(size=2) * 2
            nucleus = np.hypot(x - shift[0], y - shift[1]) < size
            cell = np.where(nucleus, 60, np.where(np.hypot(x, y) < 14, 150, 235))
            colours = np.stack([cell, cell * 0.8, np.minimum(255, cell * 1.05)], axis=2)
            Image.fromarray(colours.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")


def _write_brains(folder: Path) -> None:
    """Write five heads, one of which has no label."""
    x, y, z = np.mgrid[:_SIDE, :_SIDE, :_SIDE] - _SIDE / 2 + 0.5
    rows = ["subject\tage\tsex"]
    for number in range(1, 6):
        far = np.sqrt((x / 0.8) ** 2 + y**2 + z**2)
        lesion = np.sqrt((x - number) ** 2 + (y - 4) ** 2 + z**2) < 2 + number / 2
        head = np.select([lesion, far < 5 + number / 2, far < 12, far < 14], [220, 60, 150, 255], 0)
        subject = folder / f"sub-{number}"
        write_volume(subject / "T1" / "t1.nii.gz", head.astype(np.float32))
        if number < 5:
            write_volume(subject / "label" / "mask.nii.gz", lesion.astype(np.uint8))
        rows.append(f"sub-{number}\t{40 + number}\t{'FM'[number % 2]}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")


def _write_ecg(folder: Path, draw: np.random.Generator) -> None:
    """Write heart beats of two kinds."""
    at = np.arange(1000) / 100
    for name, rate in {"regular": 1.0, "fast": 1.8}.items():
        for number in range(3):
            phase = (at * rate + draw.random()) % 1
            beat = 80 * np.exp(-(((phase - 0.5) / 0.02) ** 2)) + 15 * np.exp(-(((phase - 0.75) / 0.06) ** 2))
            channels = {
                lead: (100.0, (beat * share + draw.normal(size=len(at))).clip(-99, 99))
                for lead, share in (("I", 0.7), ("II", 1.0))
            }
            write_recording(folder / name / f"{number}.edf", channels)


def _write_genomes(folder: Path, draw: np.random.Generator) -> None:
    """Write three variants of twelve people, and what they have."""
    folder.mkdir()
    names = [f"P{number:02}" for number in range(12)]
    sites = {
        site: [str(draw.choice(["0/0", "0/1", "1/1"])) for _ in names]
        for site in ("chr1:100:A:G", "chr1:300:C:T", "chr2:50:G:A")
    }
    write_vcf(folder / "all.vcf.gz", sites, names)
    write_people(
        folder / "people.tsv",
        {name: (30 + number, number % 2) for number, name in enumerate(names)},
        ["age", "ill"],
    )
