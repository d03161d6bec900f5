"""Whether somebody's published figures can be: arithmetic that needs nobody's trust.

- ``run``: a run of serving as it was published, from CSV, JSON or the catalogue
- ``rules``: what each run is checked for
- ``verdict``: what all rules say of all runs
"""

from negajoule.audit.rules import Finding, check
from negajoule.audit.run import Run, article_runs, read_runs
from negajoule.audit.verdict import Audit, audit

__all__ = ["Audit", "Finding", "Run", "article_runs", "audit", "check", "read_runs"]
