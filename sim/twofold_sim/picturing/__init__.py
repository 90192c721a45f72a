"""Pictures and a report of what runs gave. matplotlib is imported only to draw."""

from twofold_sim.picturing.drawing import Picture, draw, write_pictures
from twofold_sim.picturing.errors import PicturingError
from twofold_sim.picturing.report import write_report

__all__ = ["Picture", "PicturingError", "draw", "write_pictures", "write_report"]
