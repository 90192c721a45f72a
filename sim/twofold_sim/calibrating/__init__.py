"""Measures an engine that answers, and makes a profile of it."""

from twofold_sim.calibrating.command import add_calibrate_parser, run_calibrate
from twofold_sim.calibrating.endpoint import Answer, Endpoint, EndpointError
from twofold_sim.calibrating.measuring import Calibration, CalibrationSettings, calibrate
from twofold_sim.calibrating.prompts import PromptMaker

__all__ = [
    "Answer",
    "Calibration",
    "CalibrationSettings",
    "Endpoint",
    "EndpointError",
    "PromptMaker",
    "add_calibrate_parser",
    "calibrate",
    "run_calibrate",
]
