"""Routing: which model answers, so that budgets of joules, grams and money buy the most right answers.

- ``outcomes``: tables of which model did how well on what
- ``text``: a prompt as terms and features of its surface
- ``shrink``: empirical Bayes for means of small groups
- ``training``: learns a router from outcomes; needs scikit-learn
- ``router_file``: what was learned, in one file
- ``predict``: task, scores and lengths of a prompt; NumPy only
- ``energy``: expected joules and their correction by what was used
- ``mix``: not looking at the prompt, and when looking may overrule it
- ``learn``: feedback; the value of a policy on logged traffic
- ``pool``: candidates, prices, decisions
- ``decide``: the router
- ``assignment``: a batch under one budget, by a price
- ``pearl``: the reference policy, with an exact integer programme
- ``control``: budgets online, prices above a hard reserve
- ``live``: one budget of live traffic
- ``replay``: outcomes as traffic, with feedback and budgets
- ``curve``: accuracy against energy; shares of a gap; hypervolume
- ``chart``: the same as a picture
- ``evaluation``: judges a router on a table of outcomes
"""

from negajoule.route.assignment import Assignment, assign
from negajoule.route.control import Budget, OnlineController
from negajoule.route.curve import Curve
from negajoule.route.decide import Router
from negajoule.route.evaluation import Evaluation, evaluate
from negajoule.route.outcomes import Outcomes, read_outcome_files, read_outcomes
from negajoule.route.pool import Candidate, CandidateView, Prices, RouteDecision
from negajoule.route.router_file import RouterFile, load_router_file
from negajoule.route.training import train

__all__ = [
    "Assignment",
    "Budget",
    "Candidate",
    "CandidateView",
    "Curve",
    "Evaluation",
    "OnlineController",
    "Outcomes",
    "Prices",
    "RouteDecision",
    "Router",
    "RouterFile",
    "assign",
    "evaluate",
    "load_router_file",
    "read_outcome_files",
    "read_outcomes",
    "train",
]
