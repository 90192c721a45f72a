"""One engine without a model: its batches, its blocks and its time."""

from twofold_sim.engine_model.batching import BatchingEngine
from twofold_sim.engine_model.errors import JobTooLargeError
from twofold_sim.engine_model.interface import (
    BlocksEvent,
    BlocksRemoved,
    BlocksStored,
    EngineCounts,
    EngineModel,
    Event,
    Job,
)

__all__ = [
    "BatchingEngine",
    "BlocksEvent",
    "BlocksRemoved",
    "BlocksStored",
    "EngineCounts",
    "EngineModel",
    "Event",
    "Job",
    "JobTooLargeError",
]
