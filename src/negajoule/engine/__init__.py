"""The embedded model behind one small Protocol.

- ``protocol``: what an engine promises, its cards, counts and progress
- ``request``: what a request must look like
- ``assemble``: chunks folded into the plain answer
- ``fake``: a deterministic engine for tests
"""

from negajoule.engine.assemble import Assembly, assemble
from negajoule.engine.fake import FakeEngine
from negajoule.engine.protocol import Engine, ModelCard, Progress, Result, Task, Timings

__all__ = [
    "Assembly",
    "Engine",
    "FakeEngine",
    "ModelCard",
    "Progress",
    "Result",
    "Task",
    "Timings",
    "assemble",
]
