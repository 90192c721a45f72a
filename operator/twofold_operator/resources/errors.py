"""What can be wrong with a custom resource."""

from twofold_cluster.errors import TwofoldError


class InvalidSpecError(TwofoldError):
    """A resource says what cannot be done; the message names the field first.

    ``field`` is the path as a user writes it, such as ``spec.decode.tensorParallel``.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem
