"""The embedded model behind one small Protocol.

- ``protocol``: what an engine promises, its cards, counts and progress
- ``request``: what a request must look like
- ``assemble``: chunks folded into the plain answer
- ``llama``: the real engine, llama.cpp in this process
- ``stream``: llama.cpp's chunks made public, its counts made progress
- ``gguf``: the head of a model file
- ``packaged``: the model that comes as a package
- ``siblings``: the packaged model in other number formats
- ``rewrite``: a model file with its tensors in other formats
- ``endpoint``: any OpenAI-compatible server, seen as an engine, for measuring it
- ``transformers``: a model of transformers in static batches, for measuring it
- ``cores``: how many cores may be used
- ``fake``: a deterministic engine for tests
"""

from negajoule.engine.assemble import Assembly, assemble
from negajoule.engine.fake import FakeEngine
from negajoule.engine.llama import LlamaEngine
from negajoule.engine.protocol import Engine, ModelCard, Progress, Result, Task, Timings
from negajoule.engine.rewrite import open_weights, rewrite, values_of
from negajoule.engine.siblings import OUTPUT_MATRIX, SIBLING_FORMATS, precision_sibling

__all__ = [
    "OUTPUT_MATRIX",
    "SIBLING_FORMATS",
    "Assembly",
    "Engine",
    "FakeEngine",
    "LlamaEngine",
    "ModelCard",
    "Progress",
    "Result",
    "Task",
    "Timings",
    "assemble",
    "open_weights",
    "precision_sibling",
    "rewrite",
    "values_of",
]
