"""What the meter itself costs: starting, reading, and the difference of two readings, in CPU time.

python benchmarks/meter.py
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from negajoule.meter import Meter
from negajoule.meter.process_tree import ProcessTree

if TYPE_CHECKING:
    from collections.abc import Callable


def cpu_us(function: Callable[[], object], rounds: int) -> float:
    """CPU time of one call, the best of five runs [us]."""

    def once() -> float:
        before = time.process_time()
        for _ in range(rounds):
            function()
        return (time.process_time() - before) / rounds

    return min(once() for _ in range(5)) * 1e6


def main() -> None:
    """Measure and print."""
    meter, tree = Meter.for_process(probes=[]), ProcessTree()
    first, last = meter.read(), meter.read()
    figures = {
        "start_us": cpu_us(lambda: Meter.for_process(probes=[]).close(), 20),
        "read_us": cpu_us(meter.read, 500),
        "between_us": cpu_us(lambda: meter.between(first, last), 500),
        "process_tree_us": cpu_us(tree.read, 500),
    }
    for name, value in figures.items():
        print(f"{name:<16} {value:8.1f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
