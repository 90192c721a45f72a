"""What came of asking a worker to pull the beginning of a prompt."""

import msgspec

from twofold_cli.status import EXIT_DEGRADED, EXIT_READY
from twofold_cluster.identity import WorkerId
from twofold_cluster.rpc import kvtransfer_pb2 as pb


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of asking *target* to pull a prompt's beginning from *source*."""

    target: WorkerId
    source: WorkerId
    outcome: str
    """As ``PullOutcome`` has it, in small letters."""
    token_count: int
    """Of the prompt."""
    wanted_token_count: int
    """In full blocks: of what the source may hold, what the target can use. It has to compute at
    least the prompt's last token."""
    cached_token_count: int
    """That were in the target's cache when it began to compute, pulled or not."""
    pulled_block_count: int
    """By the target while it was asked."""

    @property
    def is_there(self) -> bool:
        """What was wanted was not computed, wherever it came from."""
        return self.cached_token_count >= self.wanted_token_count


def outcome_name(outcome: int) -> str:
    """Return an outcome in a word; a number, if it is a later version's."""
    named = pb.PullOutcome.DESCRIPTOR.values_by_number.get(outcome)
    return str(outcome) if named is None else named.name.removeprefix("PULL_OUTCOME_").lower()


def exit_code(report: Report) -> int:
    """Return 0 if what was wanted was pulled or there already; 1: it was computed instead."""
    is_pulled = report.outcome == outcome_name(pb.PULL_OUTCOME_PULLED)
    return EXIT_READY if report.is_there or is_pulled else EXIT_DEGRADED


def as_json(report: Report) -> str:
    return msgspec.json.encode(report).decode()
