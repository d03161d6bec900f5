"""Measuring: what a process or a machine draws, by counters where they can be read, by a model elsewhere.

- ``probe``: what every instrument promises, and the readings, gaps and capabilities it gives
- ``track``: raw counters and power samples to energy that never falls, with bounds and gaps
- ``board``: a device with counter and power sensor, each the other's check
- ``sampler``: instruments that are slow to ask, sampled in a thread of their own
- ``rapl``, ``nvml``, ``amdsmi``, ``apple``, ``hwmon`` (and Jetson), ``chassis`` (IPMI, Redfish): instruments
- ``discovery``: which of them can be read here
- ``host``: processor, memory, container limits, identity
- ``kernel_files``: the small text files in which the kernel answers
- ``usage``, ``process_tree``: CPU time and memory of a tree of processes, or of the machine
- ``model``: the coefficients where nothing can be read
- ``calibration``, ``calibrate``, ``meter_file``: learning this machine's figures from a counter or a meter
- ``attribution``: a machine's energy split over claims, nobody's share kept apart
- ``bank``: all probes read together, no domain counted twice
- ``meter``: running sums, a heartbeat where a probe needs one
- ``window``: what the meter gives: snapshots, windows, shares by grade
- ``ranks``: machine-wide readings of many ranks, each device once
- ``journal``: a run's totals on disk while it runs
- ``requests``: what the meter reads, split over the requests of a batching engine
- ``passing``: the same for calls that are only passed on, with few readings
- ``steps``: the steps of that engine, told apart by what its sequences report

What only some callers need (calibration, journal, ranks, requests, chassis) is imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.lazy import names_from
from negajoule.meter.discovery import capabilities, find_probes
from negajoule.meter.host import Host, read_host
from negajoule.meter.meter import Meter
from negajoule.meter.probe import Capability, Gap, Probe, Reading
from negajoule.meter.process_tree import adopt_orphans, reap_orphans
from negajoule.meter.usage import MachineUsage, tree_of
from negajoule.meter.window import Snapshot, Window, grade_shares

if TYPE_CHECKING:
    from negajoule.meter.calibrate import calibrate_machine
    from negajoule.meter.calibration import Calibration, load_calibration, save_calibration
    from negajoule.meter.chassis import chassis_probe
    from negajoule.meter.journal import Journal, JournalEntry, journal_folder, merge_journals, unfinished
    from negajoule.meter.passing import PassingSplitter
    from negajoule.meter.ranks import DeviceReading, device_readings, merge_ranks
    from negajoule.meter.requests import Balance, RequestSplitter, Share, Splitter

__all__ = [
    "Balance",
    "Calibration",
    "Capability",
    "DeviceReading",
    "Gap",
    "Host",
    "Journal",
    "JournalEntry",
    "MachineUsage",
    "Meter",
    "PassingSplitter",
    "Probe",
    "Reading",
    "RequestSplitter",
    "Share",
    "Snapshot",
    "Splitter",
    "Window",
    "adopt_orphans",
    "calibrate_machine",
    "capabilities",
    "chassis_probe",
    "device_readings",
    "find_probes",
    "grade_shares",
    "journal_folder",
    "load_calibration",
    "merge_journals",
    "merge_ranks",
    "read_host",
    "reap_orphans",
    "save_calibration",
    "tree_of",
    "unfinished",
]

__getattr__ = names_from(
    globals(),
    {
        "calibrate_machine": ".calibrate",
        "Calibration": ".calibration",
        "load_calibration": ".calibration",
        "save_calibration": ".calibration",
        "chassis_probe": ".chassis",
        "Journal": ".journal",
        "JournalEntry": ".journal",
        "journal_folder": ".journal",
        "merge_journals": ".journal",
        "unfinished": ".journal",
        "Balance": ".requests",
        "PassingSplitter": ".passing",
        "RequestSplitter": ".requests",
        "Splitter": ".requests",
        "Share": ".requests",
        "DeviceReading": ".ranks",
        "device_readings": ".ranks",
        "merge_ranks": ".ranks",
    },
)
