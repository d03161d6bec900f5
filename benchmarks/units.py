"""What one operation on a quantity costs; the target is under 1,000 ns each.

Usage: python benchmarks/units.py
"""

from __future__ import annotations

import json
import time
import timeit

from negajoule.units import CarbonIntensity, Energy, Ratio, total

REPEATS = 20
COUNT = 20_000
TARGET_NS = 1000.0


def cost_ns(statement: str, names: dict[str, object]) -> float:
    """CPU time of the fastest of several rounds [ns]."""
    rounds = timeit.Timer(statement, timer=time.process_time, globals=names).repeat(REPEATS, COUNT)
    return min(rounds) / COUNT * 1e9


def main() -> None:
    """Time every operation, print a table and, last, one JSON object."""
    energy = Energy(5.0, 4.0, 6.0, "modelled", "node")
    names: dict[str, object] = {
        "Energy": Energy,
        "energy": energy,
        "other": Energy(7.0, 6.0, 8.0, "measured", "node"),
        "pue": Ratio(1.5, 1.2, 1.8),
        "intensity": CarbonIntensity(1e-4, 9e-5, 2e-4),
        "signed": Ratio(-0.5, -1.0, 1.0),
        "ten": [energy] * 10,
        "total": total,
    }
    operations = {
        "construct": "Energy(5.0, 4.0, 6.0, 'modelled', 'node')",
        "add": "energy + other",
        "subtract": "energy - other",
        "scale": "energy * 1.5",
        "divide": "energy / 1.5",
        "multiply": "energy * pue",
        "multiply_signed": "energy * signed",
        "carbon": "energy * intensity",
        "overlaps": "energy.overlaps(other)",
    }
    result = {f"{name}_ns": cost_ns(statement, names) for name, statement in operations.items()}
    result["total_ns_per_item"] = cost_ns("total(ten)", names) / 10
    result["worst_ns"] = max(result.values())
    for name, value in result.items():
        print(f"{name.removesuffix('_ns').replace('_ns', ''):<18} {value:7.0f} ns")
    print(json.dumps({"schema": "negajoule.benchmark.units/1", **result, "target_ns": TARGET_NS}))


if __name__ == "__main__":
    main()
