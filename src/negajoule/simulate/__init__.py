"""What serving would cost: requests through replicas of a model, by step, in energy, carbon and time.

- ``policy``: what a policy of release sees and answers; the same object works here and in a gateway
- ``rules``: the rules of release that the compiled core knows
- ``trace``: requests over time
- ``fleet``: what serves them: replicas, batching, routing, limits
- ``simulator``: run a trace through a fleet
- ``outcome``: what became of each request and of the energy
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

__all__ = [
    "PHASES",
    "Batching",
    "CodedPolicy",
    "Fate",
    "Fleet",
    "Outcome",
    "Policy",
    "Routing",
    "Rule",
    "RuleCode",
    "Service",
    "Trace",
    "View",
    "capped",
    "decide_by_rule",
    "simulate",
]
