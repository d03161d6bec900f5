"""Serving a language model on known hardware: time, power and energy of a step, by phase.

- ``step_table``: what a step costs, in the form that sums in closed form; what a simulation reads
"""

from negajoule.physics.serving.step_table import StepTable

__all__ = ["StepTable"]
