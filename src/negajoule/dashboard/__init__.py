"""The web pages over the ledger.

- ``home``: one plain page: totals with ranges, the last requests, what is measured and what is assumed
"""

from negajoule.dashboard.home import pages

__all__ = ["pages"]
