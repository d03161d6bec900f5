"""Smaller models, with proof: recipes, and studies of before and after.

- ``texts``: labelled texts, cleaned and split
- ``steps``, ``recipe``: what may be done to a model, and chains of it
- ``plan``, ``study``: what is studied; making, asking and measuring in turn
- ``worker``, ``hand``, ``orders``, ``passes``: a process for each artefact, and what is said to and fro
- ``workshop``: the study's folder, from which an interrupted study goes on
- ``paired``: statistics of the same texts and rounds before and after
- ``judge``, ``result``: what was found, and what may be said of it
- ``pareto``, ``model_card``: the picture, and the card that goes with an artefact
- ``article``: two published tables beside what is measured here
- ``artefact``: a folder with a model of any kind; loading it again must give the same answers
- ``encoder``, ``cutter``: encoders of Hugging Face, and their tokens
- ``run_torch``, ``run_onnx``: engines
- ``fine_tune``, ``training``, ``teacher``, ``distil``, ``bag``: steps that train
- ``prune``, ``prune_heads``, ``vocabulary``: steps that take parts out
- ``onnx_files``, ``torch_int8``: steps that quantise
- ``shape``: random weights, for what a shape costs
- ``gguf_recipes``, ``four_bits``, ``calibration``: generative models in other formats, four bits by texts
- ``ladder``, ``generative_worker``: a generative model in several formats, each in its own process
- ``passages``, ``forced``: texts that judge it, and the probability that an engine gives to each token
- ``adapters``, ``four_bit_layers``, ``qlora``: fine-tuning with adapters, on 4-bit weights too, guarded
- ``toolbox``: the optional libraries
"""

from negajoule.compress.paired import Interval, Quality
from negajoule.compress.plan import Plan
from negajoule.compress.recipe import Recipe
from negajoule.compress.result import Line, Result
from negajoule.compress.study import Study
from negajoule.compress.texts import BUNDLED, LabelledTexts, load_texts

__all__ = [
    "BUNDLED",
    "Interval",
    "LabelledTexts",
    "Line",
    "Plan",
    "Quality",
    "Recipe",
    "Result",
    "Study",
    "load_texts",
]
