"""Why there are no pictures."""


class PicturingError(Exception):
    """Pictures cannot be drawn here: matplotlib is missing."""
