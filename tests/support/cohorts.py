"""Write small folders of genotypes with cyvcf2 and bed-reader."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path

import cyvcf2
import numpy as np
from bed_reader import to_bed

_HTSLIB = ctypes.CDLL(cyvcf2.cyvcf2.__file__)
"""The library in cyvcf2, which can make an index and has no method for that."""


def write_vcf(
    path: Path,
    sites: Mapping[str, Sequence[str]],
    samples: Sequence[str],
    *,
    field: str = "GT",
    index: bool = True,
) -> Path:
    """Write a VCF file, packed and with an index if its name ends in .gz: by `chromosome:position:ref:alt`, the field of each person."""
    contigs = dict.fromkeys(site.split(":")[0] for site in sites)
    header = "\n".join(
        [
            "##fileformat=VCFv4.2",
            *(f"##contig=<ID={name}>" for name in contigs),
            '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
            '##FORMAT=<ID=DS,Number=A,Type=Float,Description="Dosage">',
            "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *samples]),
        ]
    )
    packed = path.suffix == ".gz"
    writer = cyvcf2.Writer.from_string(str(path), header + "\n", mode="wz" if packed else "w")
    for site, values in sites.items():
        chromosome, position, ref, alt = site.split(":")
        line = "\t".join([chromosome, position, ".", ref, alt, ".", ".", ".", field, *values])
        writer.write_record(writer.variant_from_string(line))
    writer.close()
    if packed and index:
        assert 0 == _HTSLIB.bcf_index_build(str(path).encode(), 14)
    return path


def write_bed(
    path: Path, variants: Sequence[str], dosages: Sequence[Sequence[float]], samples: Sequence[str]
) -> Path:
    """Write bed, bim and fam files: dosages by person, of variants `chromosome:position:ref:alt`."""
    fields = [variant.split(":") for variant in variants]
    to_bed(
        path,
        np.array(dosages, np.float32),
        properties={
            "iid": list(samples),
            "chromosome": [field[0] for field in fields],
            "bp_position": [int(field[1]) for field in fields],
            "allele_1": [field[3] for field in fields],
            "allele_2": [field[2] for field in fields],
        },
    )
    return path


def write_people(path: Path, rows: Mapping[str, Sequence[object]], columns: Sequence[str]) -> Path:
    """Write the table of people: by name, what is known of each."""
    lines = ["\t".join(["sample", *columns])]
    lines += ["\t".join([name, *map(str, row)]) for name, row in rows.items()]
    path.write_text("\n".join(lines) + "\n")
    return path
