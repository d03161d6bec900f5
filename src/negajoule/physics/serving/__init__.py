"""Serving a language model on known hardware: time, power and energy of a step, by phase.

- ``step_table``: what a step costs, in the form that sums in closed form; what a simulation reads
- ``model_shape``: what a model stores, reads and computes
- ``model_config``: the same from a ``config.json``
- ``known_shapes``: the same by name, or from a size
- ``setup``: a model on accelerators, and whether it fits their memory
- ``setup_inputs``: from a setup to the numbers of the physics
- ``step_physics``: the roofline of a step with host, links and experts; the fit and the predictor share it
- ``residuals``: what the physics misses, learned from setups that are alike
- ``predictor``: from a setup, a batch and lengths to an answer, or a refusal
- ``prediction``: the answer: by phase, with intervals
- ``calibration``: fitting a setup to a few measured points
- ``step_table_of``: writing a step table from predictions
"""

from negajoule.physics.serving.calibration import MeasuredPoint, SetupCalibration, fit_setup_calibration
from negajoule.physics.serving.known_shapes import shape_of, shape_of_size
from negajoule.physics.serving.model_config import shape_from_config
from negajoule.physics.serving.model_shape import ModelShape
from negajoule.physics.serving.prediction import Phase, Prediction
from negajoule.physics.serving.predictor import Predictor, load_predictor
from negajoule.physics.serving.setup import ServingSetup
from negajoule.physics.serving.step_table import StepTable

__all__ = [
    "MeasuredPoint",
    "ModelShape",
    "Phase",
    "Prediction",
    "Predictor",
    "ServingSetup",
    "SetupCalibration",
    "StepTable",
    "fit_setup_calibration",
    "load_predictor",
    "shape_from_config",
    "shape_of",
    "shape_of_size",
]
