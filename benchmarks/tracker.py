"""What a tracker costs: import, start and stop, background, dependencies; against CodeCarbon and Zeus.

Each tool gets a virtual environment of its own, kept in ``--venvs`` for the next run, and nothing else in it.
All figures are CPU time of fresh processes, in interleaved rounds, less that of a bare interpreter.

    python benchmarks/tracker.py [--rounds 7] [--seconds 30] [--venvs DIR]

Import means everything that the first use needs and that can be imported beforehand, not an empty package.
Start and stop is the first in a process, which pays for whatever was put off; the warm figure is the tenth.
Background is a process that sleeps while it is tracked with one sample a second.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

_TIMED = """
import time
before = time.process_time()
{start}
{stop}
first = time.process_time() - before
for _ in range(10):
    before = time.process_time()
    {start}
    {stop}
    warm = time.process_time() - before
print("first_ms", first * 1e3, "warm_ms", warm * 1e3)
"""

_BACKGROUND = """
import resource, time
def used():
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
{settle}
time.sleep(2)
before = used()
{wait}
print("background_s", used() - before)
"""


class Tool(NamedTuple):
    """A tracker: how to install, import, start and stop it, and how to let it run in the background."""

    prefix: str
    requirement: str
    load: str
    start: str
    stop: str
    settle: str
    wait: str


TOOLS = (
    Tool(
        "",
        str(ROOT),
        "from negajoule import measure",
        "m = measure('bench').start()",
        "m.stop()",
        "from negajoule import measure\nfrom negajoule.meter import Meter\n"
        "m = measure('bench').start()\nmeter = Meter.for_process()\n",
        "for _ in range({seconds}):\n    time.sleep(1)\n    meter.read()\n",
    ),
    Tool(
        "codecarbon_",
        "codecarbon==3.3.2",
        "from codecarbon import OfflineEmissionsTracker",
        "t = OfflineEmissionsTracker(country_iso_code='FRA', log_level='critical'); t.start()",
        "t.stop()",
        "from codecarbon import OfflineEmissionsTracker\n"
        "t = OfflineEmissionsTracker(country_iso_code='FRA', log_level='critical', measure_power_secs=1)\n"
        "t.start()\n",
        "time.sleep({seconds})\n",
    ),
    Tool(
        "zeus_",
        "zeus==0.16.0",
        "from zeus.monitor import ZeusMonitor",
        "m = ZeusMonitor(gpu_indices=[]); m.begin_window('w')",
        "m.end_window('w')",
        "from zeus.monitor import ZeusMonitor\nm = ZeusMonitor(gpu_indices=[])\nm.begin_window('w')\n",
        "time.sleep({seconds})\n",
    ),
)


def environment(tool: Tool, folder: Path) -> Path:
    """The tool's own interpreter, installed if need be."""
    home = folder / (tool.prefix.strip("_") or "negajoule")
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    # Ours is installed anew, as users get it: compiled, and not from the source tree.
    if tool.prefix == "" or not (home / "installed").exists():
        again = ["--force-reinstall", "--no-deps"] if (home / "installed").exists() else []
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *again, tool.requirement], check=True)
        (home / "installed").touch()
    return python


def cpu_ms(python: Path, code: str, folder: str) -> tuple[float, str]:
    """CPU time of a fresh process, and what it printed."""
    variables = {**os.environ, "NEGAJOULE_HOME": f"{folder}/home"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(python), "-c", code], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr[-800:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used * 1e3, done.stdout


def dependencies(python: Path) -> int:
    """Distributions that the tool brings along."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=True,
    )
    return len({row["name"] for row in json.loads(listed.stdout)} - {"pip", "setuptools"}) - 1


def main() -> None:
    """Run the rounds and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "negajoule-benchmarks")
    options = parser.parse_args()
    options.venvs.mkdir(parents=True, exist_ok=True)
    pythons = {tool.prefix: environment(tool, options.venvs) for tool in TOOLS}
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for tool in TOOLS:
                python, prefix = pythons[tool.prefix], tool.prefix
                bare, _ = cpu_ms(python, "pass", folder)
                loaded, _ = cpu_ms(python, tool.load, folder)
                timed = _TIMED.format(start=tool.start, stop=tool.stop)
                _, printed = cpu_ms(python, f"{tool.load}\n{timed}", folder)
                first, warm = map(float, re.findall(r"_ms ([\d.e+-]+)", printed)[-2:])
                for name, value in (
                    ("import_cpu_ms", loaded - bare),
                    ("start_stop_cpu_ms", first),
                    ("start_stop_warm_cpu_ms", warm),
                ):
                    samples.setdefault(prefix + name, []).append(value)
        figures = {name: statistics.median(values) for name, values in samples.items()}
        for tool in TOOLS:
            python, prefix = pythons[tool.prefix], tool.prefix
            # From inside, once all that the start put off has settled: what a process pays for being tracked.
            code = _BACKGROUND.format(settle=tool.settle, wait=tool.wait.format(seconds=options.seconds))
            _, printed = cpu_ms(python, code, folder)
            (used_s,) = map(float, re.findall(r"background_s ([\d.e+-]+)", printed))
            figures[f"{prefix}background_cpu_s_per_min"] = used_s * 60 / options.seconds
            figures[f"{prefix}added_dependencies"] = dependencies(python)
    names = ("import_cpu_ms", "start_stop_cpu_ms", "start_stop_warm_cpu_ms", "background_cpu_s_per_min")
    for tool in TOOLS:
        title = tool.prefix.strip("_") or "negajoule"
        values = ", ".join(f"{name} {figures[tool.prefix + name]:.3g}" for name in names)
        print(f"{title}: {values}, added dependencies {figures[tool.prefix + 'added_dependencies']}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
