"""Kill a journalled run fifty times at random moments and see what is lost.

Each round starts a program that works, measures itself and keeps a journal; after a random time it is killed
with SIGKILL, which nothing can catch. What its journal then lacks of the time it ran is lost. The last line
is one JSON
object: ``max_lost_s`` must not exceed ``heartbeat_s``.

    python benchmarks/crash.py [--kills 50] [--heartbeat 1.0] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from negajoule.meter.host import read_host
from negajoule.meter.journal import merge_journals, read_journal, unfinished

PROGRAM = """
import sys, time
from pathlib import Path
from negajoule.meter import Meter
from negajoule.meter.journal import Journal
Journal(Meter.for_process(), Path(sys.argv[1]), run=sys.argv[2], heartbeat_s=float(sys.argv[3]))
print(time.time(), flush=True)
while True:
    sum(range(10_000))
    time.sleep(0.001)
"""


def kill_one(folder: Path, run: str, heartbeat_s: float, after_s: float) -> float:
    """Start a run, kill it after some time, and return what its journal lacks [s]."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), run, str(heartbeat_s)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    program.stdout.readline()
    time.sleep(after_s)
    program.send_signal(signal.SIGKILL)
    killed_s = time.time()
    program.wait()
    program.stdout.close()
    last = read_journal(folder / f"{run}.jsonl")[-1]
    return killed_s - (last.started_s + last.seconds)


def main() -> None:
    """Run all rounds and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--heartbeat", type=float, default=1.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    lost_s = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(options.kills):
            after_s = moments.uniform(0.0, 2 * options.heartbeat)
            lost_s.append(kill_one(folder, f"run-{number:03}", options.heartbeat, after_s))
            print(f"killed after {after_s:5.2f} s: lost {lost_s[-1]:5.3f} s")
        files = sorted(folder.glob("*.jsonl"))
        found = len(unfinished(folder, read_host().boot_id))
        idempotent = merge_journals(files) == merge_journals([*reversed(files), *files])
    print(f"\n{options.kills} kills, heartbeat {options.heartbeat:g} s")
    print(f"lost on average {sum(lost_s) / len(lost_s):.3f} s, at most {max(lost_s):.3f} s")
    print(
        f"{found} of {options.kills} found again as unfinished; merging twice changes nothing: {idempotent}"
    )
    print(
        json.dumps(
            {
                "max_lost_s": round(max(lost_s), 4),
                "mean_lost_s": round(sum(lost_s) / len(lost_s), 4),
                "heartbeat_s": options.heartbeat,
                "kills": options.kills,
                "found": found,
                "merge_idempotent": idempotent,
            }
        )
    )


if __name__ == "__main__":
    main()
