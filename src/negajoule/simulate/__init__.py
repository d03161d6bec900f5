"""What serving would cost: requests through replicas of a model, by step, in energy, carbon and time.

- ``policy``: what a policy of release sees and answers; the same object works in a simulation and in a gateway
- ``rules``: the rules of release that the compiled core knows
"""

from negajoule.simulate.policy import CodedPolicy, Policy, Rule, View
from negajoule.simulate.rules import RuleCode, decide_by_rule

__all__ = ["CodedPolicy", "Policy", "Rule", "RuleCode", "View", "decide_by_rule"]
