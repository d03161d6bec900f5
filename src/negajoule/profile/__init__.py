"""What a model takes on the machine at hand, prefill and decode apart.

- ``cell``: what is measured, and what one repeat of it gave
- ``prompts``: prompts of a wanted length that no cache has seen
- ``measure``: one cell, its phases told apart
- ``quiet``: whether the machine is free
- ``target``: a model by name, file, folder or address, opened in all its formats
- ``sweep``: all cells in mixed order, several times
- ``profile``: the file that other rooms read
- ``bootstrap``, ``summary``: medians and intervals over rounds
- ``law``: cost as a law of batch and lengths, fitted to the samples
- ``step_table``: the law in the form that a simulation reads
- ``choice``: which number format does a piece of work at the least cost
- ``roofline``, ``chart``: the measured points under the machine's roof
- ``serving_calibration``: three measured points that correct predictions for a deployment
"""

from negajoule.profile.cell import Cell, PhaseSample, Sample
from negajoule.profile.choice import best_precision, is_tie
from negajoule.profile.law import Cost, CostLaw
from negajoule.profile.profile import Profile, load_profile
from negajoule.profile.quiet import wait_until_quiet
from negajoule.profile.roofline import measure_ceilings, roofline_points
from negajoule.profile.serving_calibration import (
    ServingCalibration,
    calibrate_serving,
    calibrated_predictor,
    calibrated_profile,
    load_serving_calibrations,
    save_serving_calibration,
)
from negajoule.profile.summary import CellSummary, Spread, summarise
from negajoule.profile.sweep import Sweep, run_sweep
from negajoule.profile.target import Target, open_target

__all__ = [
    "Cell",
    "CellSummary",
    "Cost",
    "CostLaw",
    "PhaseSample",
    "Profile",
    "Sample",
    "ServingCalibration",
    "Spread",
    "Sweep",
    "Target",
    "best_precision",
    "calibrate_serving",
    "calibrated_predictor",
    "calibrated_profile",
    "is_tie",
    "load_profile",
    "load_serving_calibrations",
    "measure_ceilings",
    "open_target",
    "roofline_points",
    "run_sweep",
    "save_serving_calibration",
    "summarise",
    "wait_until_quiet",
]
