"""OpenAI's Batch API: work that may wait for up to a day, kept on disk until it is done.

- ``record``: a file and a batch, as they are kept and as clients see them
- ``shelf``: where they are kept
- ``upload``: a file on its way in
- ``lines``: what a batch's file asks for, checked
- ``journal``: answers, each on disk before it counts
- ``line``: one line's way through the server
- ``runner``: runs batches within their windows, and again after a crash
- ``pages``: ``/v1/files`` and ``/v1/batches``

Prompts and answers of batches are stored, unlike all others: see ``docs/privacy.md``.
"""

from negajoule.gateway.batches.pages import Batches
from negajoule.gateway.batches.record import BatchLimits

__all__ = ["BatchLimits", "Batches"]
