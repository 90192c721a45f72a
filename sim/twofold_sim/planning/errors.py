"""Why there is no plan."""


class PlanningError(Exception):
    """The root of the reasons why there is no plan."""


class NoRoomError(PlanningError):
    """The GPUs are too few for any layout."""


class UnmeetableError(PlanningError):
    """No kind of engines meets the objective however little it has to do, or no cluster does at any
    rate."""


class TooFewRequestsError(PlanningError):
    """So few requests cannot be too much for a cluster, so nothing can be told of its goodput."""
