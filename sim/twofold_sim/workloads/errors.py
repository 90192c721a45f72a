"""What can be wrong with a workload."""


class WorkloadError(Exception):
    """A workload that cannot be used: which file, where in it, and what is wrong."""
