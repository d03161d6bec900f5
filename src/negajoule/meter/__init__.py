"""Measuring: what a process or a machine draws, by counters where they can be read, by a model elsewhere.

- ``probe``: what every instrument promises, and the readings, gaps and capabilities it gives
- ``track``: raw counters and power samples to energy that never falls, with bounds and gaps
- ``board``: a device with counter and power sensor, each the other's check
- ``sampler``: instruments that are slow to ask, sampled in a thread of their own
- ``rapl``, ``nvml``, ``amdsmi``, ``apple``, ``hwmon`` (with Jetson), ``chassis`` (IPMI, Redfish): the
instruments
- ``discovery``: which of them can be read here
- ``host``: processor, memory, container limits, identity
- ``usage``, ``process_tree``: CPU time and memory of a tree of processes, or of the machine
- ``model``: the coefficients where nothing can be read
- ``attribution``: a machine's energy split over claims, nobody's share kept apart
- ``bank``: all probes read together, no domain counted twice
- ``meter``: running sums, a heartbeat where a probe needs one
- ``window``: what the meter gives: snapshots, windows, shares by grade
- ``requests``: what the meter reads, split over the requests of a batching engine
"""

from negajoule.meter.discovery import capabilities, find_probes
from negajoule.meter.host import Host, read_host
from negajoule.meter.meter import Meter
from negajoule.meter.probe import Capability, Gap, Probe, Reading
from negajoule.meter.process_tree import adopt_orphans, reap_orphans
from negajoule.meter.requests import Balance, RequestSplitter, Share
from negajoule.meter.usage import tree_of
from negajoule.meter.window import Snapshot, Window, grade_shares

__all__ = [
    "Balance",
    "Capability",
    "Gap",
    "Host",
    "Meter",
    "Probe",
    "Reading",
    "RequestSplitter",
    "Share",
    "Snapshot",
    "Window",
    "adopt_orphans",
    "capabilities",
    "find_probes",
    "grade_shares",
    "read_host",
    "reap_orphans",
    "tree_of",
]
