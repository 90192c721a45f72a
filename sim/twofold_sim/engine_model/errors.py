"""Errors of an engine model."""


class JobTooLargeError(Exception):
    """A job never fits into the engine, however long it waits."""
