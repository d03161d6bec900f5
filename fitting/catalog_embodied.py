"""Making a server, per physical core and without its memory and accelerators.

    python fitting/catalog_embodied.py --data ../shared/data [--check]

Nobody publishes kilograms per core. Three routes, of which the first gives the value and all three the ends:

1. Cloud Carbon Footprint's server (1,000 kg, and 100 kg for each further processor) over the cores of the
   servers in SPECpower's results since 2021: what is rented out today.
2. Its totals for AWS's families without memory and accelerators, over the cores of the family's largest size.
3. EcoLogits' 8-GPU server without GPUs, less its memory, over its cores.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from catalog_files import Row, arguments, fingerprint, settle

if TYPE_CHECKING:
    from pathlib import Path

FIRST_YEAR = 2021
BASE_KG, FURTHER_PROCESSOR_KG = 1000.0, 100.0  # CCF and the GSF Impact Framework
GPU_SERVER_CORES, GPU_SERVER_GB = 96, 2048  # AWS p5.48xlarge: 192 threads, 2 TiB
NEWEST_FAMILIES = re.compile(r"^[cmr][5-9]\w*\.")  # x86 and Graviton families of one server each


def by_specpower(path: Path) -> list[float]:
    """Route 1 [kgCO2e/core], a figure for each server."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if int(row["Published"][-4:]) >= FIRST_YEAR]
    return [
        (BASE_KG + FURTHER_PROCESSOR_KG * (int(row["Chips"]) - 1)) / int(row["# Cores"])
        for row in rows
        if int(row["Chips"]) in (1, 2) and int(row["# Cores"]) >= 32
    ]


def by_aws(path: Path) -> list[float]:
    """Route 2 [kgCO2e/core], a figure for each family."""
    kilograms: dict[str, float] = {}
    threads: dict[str, int] = defaultdict(int)
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            size = re.search(r"\.(\d+)xlarge$", row["type"])
            if not NEWEST_FAMILIES.match(row["type"]) or not size:
                continue
            family = row["type"].split(".")[0]
            threads[family] = max(threads[family], 4 * int(size[1]))
            kilograms[family] = (
                float(row["total"]) - float(row["additional_memory"]) - float(row["additional_gpus"])
            )
    # Graviton's threads are cores; the others have two to a core.
    return [
        kilograms[family] / (count if re.match(r"^\w\d+g", family) else count / 2)
        for family, count in threads.items()
    ]


def by_ecologits(path: Path) -> float:
    """Route 3 [kgCO2e/core]."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    server = next(float(r["gwp_kgco2e"]) for r in rows if r["item"].startswith("server p5"))
    per_gb = next(float(r["gwp_kgco2e"]) for r in rows if r["item"] == "memory per GB")
    return (server - GPU_SERVER_GB * per_gb) / GPU_SERVER_CORES


def main() -> None:
    """Make the file."""
    data, check = arguments("Make the catalogue's figure for making a server, per core.")
    sources = [
        data / "hardware/specpower_2026-03-09.csv",
        data / "cloud/ccf_aws_embodied.csv",
        data / "hardware/embodied_constants.csv",
    ]
    for source in sources:
        fingerprint(source)
    specpower, aws, ecologits = by_specpower(sources[0]), by_aws(sources[1]), by_ecologits(sources[2])
    for name, figures in (("SPECpower", specpower), ("AWS", aws), ("EcoLogits", [ecologits])):
        low, median, high = np.percentile(figures, [5, 50, 95])
        print(f"  {name:10} {median:5.1f} kg/core ({low:.1f} to {high:.1f}), {len(figures)}")
    low, value = (float(number) for number in np.percentile(specpower, [5, 50]))
    high = max(float(np.percentile(figures, 95)) for figures in (specpower, aws, [ecologits]))
    row = Row(
        "embodied.core",
        value,
        low,
        high,
        "kgCO2e/core",
        2026,
        "Cloud Carbon Footprint b0032d9; SPECpower_ssj2008 to 2026-03; EcoLogits 0.11.3",
        "Apache-2.0; facts",
        f"a server without memory and accelerators, per physical core; value and low: 1,000 kg + 100 kg per"
        f" further CPU over {len(specpower)} servers since {FIRST_YEAR}; high: AWS families and a GPU server",
    )
    settle({"embodied.core.csv": [row]}, check=check)


if __name__ == "__main__":
    main()
