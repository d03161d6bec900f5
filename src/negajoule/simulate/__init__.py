"""What serving would cost: requests through replicas of a model, by step, in energy, carbon and time.

- ``policy``: what a policy of release sees and answers; the same object works here and in a gateway
- ``rules``: the rules of release that the compiled core knows
- ``trace``: requests over time
- ``fleet``: what serves them: replicas, batching, routing, limits
- ``simulator``: run a trace through a fleet
- ``traffic_files``: traces in files; ``traffic_servegen``: of rates by client; ``traffic_made``: by a law
- ``outcome``: what became of each request and of the energy
- ``preparation``: the state before the first event
- ``core``: the order of events; ``compiled``: the same through numba
- ``replica``: a replica between two steps; ``admission``, ``leaving``: who joins, who goes before the end
- ``jump``: many steps at once; ``batch``: slots and who is done first; ``routing``: which replica
- ``layout``: how all that lies in memory
"""

from negajoule.simulate.fleet import Batching, Fleet, Routing, Service, capped
from negajoule.simulate.outcome import PHASES, Fate, Outcome
from negajoule.simulate.policy import CodedPolicy, Policy, Rule, View
from negajoule.simulate.rules import RuleCode, decide_by_rule
from negajoule.simulate.simulator import simulate
from negajoule.simulate.trace import Trace
from negajoule.simulate.traffic_files import read_trace, write_vidur
from negajoule.simulate.traffic_made import (
    FixedLengths,
    Lengths,
    LengthsOf,
    LognormalLengths,
    bursts,
    diurnal,
    fixed,
    markov_modulated,
    poisson,
    uniform,
)

__all__ = [
    "PHASES",
    "Batching",
    "CodedPolicy",
    "Fate",
    "FixedLengths",
    "Fleet",
    "Lengths",
    "LengthsOf",
    "LognormalLengths",
    "Outcome",
    "Policy",
    "Routing",
    "Rule",
    "RuleCode",
    "Service",
    "Trace",
    "View",
    "bursts",
    "capped",
    "decide_by_rule",
    "diurnal",
    "fixed",
    "markov_modulated",
    "poisson",
    "read_trace",
    "simulate",
    "uniform",
    "write_vidur",
]
