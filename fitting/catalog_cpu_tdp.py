"""Thermal design power of server processors and of the commoner ones in desktops and laptops.

    python fitting/catalog_cpu_tdp.py --data ../shared/data [--check]

Reads ``hardware/cpu_tdp_codecarbon.csv`` (4,918 names) and keeps what a machine of this decade is likely to
be; names that differ only in marks share a key and, where their figures differ, an interval.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import defaultdict
from pathlib import Path

from catalog_files import Row, arguments, fingerprint, settle

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from negajoule.catalog.processors import slug

KEPT = re.compile(
    r"amd-epyc-"
    r"|amd-ryzen-threadripper-"
    r"|amd-ryzen-(ai|[3579]-(pro-)?[5789]\d{3}[a-z]*)"
    r"|apple-m\d"
    r"|intel-core-ultra-"
    r"|intel-core-i[3579]-1[0-4]\d{2,3}[a-z0-9]*$"
    r"|intel-xeon-(platinum|gold|silver|bronze|max)-"
    r"|intel-xeon-6\d{3}"
    r"|intel-xeon-(e|w)-\d{4}"
    r"|intel-xeon-w\d-"
    r"|intel-xeon-e5-26\d\d[a-z]*-v[34]$"
)
LEFT_OUT = re.compile(r"-embedded-|-1[0-4]\d{3}(e|te|ue|he|re|ure|hre|ge|gre)$|-1[0-4]\d\dg\d?(e|re)$")


def main() -> None:
    """Make the file."""
    data, check = arguments("Make the catalogue's file of processors.")
    source = data / "hardware/cpu_tdp_codecarbon.csv"
    digest = fingerprint(source)
    watts: dict[str, list[float]] = defaultdict(list)
    with source.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            name = slug(row["Name"])
            if not KEPT.match(name) or LEFT_OUT.search(name):
                continue
            try:
                watts[name].append(float(row["TDP"]))
            except ValueError:
                print(f"  left out: {row['Name']} with TDP {row['TDP']!r}")
    rows = [
        Row(
            f"cpu.tdp.{name}",
            max(figures),
            min(figures),
            max(figures),
            "W",
            2026,
            "CodeCarbon 3.3.2",
            "MIT",
        )
        for name, figures in watts.items()
    ]
    for row in rows:
        if row.low != row.high:
            print(f"  {row.key}: {row.low:g} to {row.high:g} W")
    print(f"source sha256 {digest}...")
    settle({"cpu.tdp.csv": rows}, check=check)


if __name__ == "__main__":
    main()
