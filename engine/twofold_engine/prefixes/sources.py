"""Which worker another one may take the beginning of a prompt from, and in what time."""

from collections.abc import Mapping

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_engine.prefixes.errors import CannotPullError
from twofold_engine.prefixes.finding import Found
from twofold_kvtransfer.directory import DEFAULT_TIER

PATIENCE = 10.0
"""A pull may take so many times what computing would take. By itself a worker does not pull what it
computes as quickly; who asks for a pull ahead of need wants no computing, and is in no hurry."""

UNMEASURED_SECONDS_PER_TOKEN = 0.001
"""Of a worker that has computed no prompt yet. A small model on a few CPU cores takes about as
long, a GPU much less."""


def worker_named(name: str, workers: Mapping[WorkerId, Worker]) -> Worker:
    """Return the worker called *name*.

    Raises:
        CannotPullError: there is none among *workers*.
    """
    worker = workers.get(WorkerId(name))
    if worker is None:
        known = ", ".join(sorted(workers))
        raise CannotPullError(f"no worker {name} is ready; there are: {known}")
    return worker


def check_pulls(worker: Worker) -> None:
    """Raises:
    CannotPullError: *worker* neither gives nor takes prefixes.
    """
    if not worker.kv_side_channel:
        raise CannotPullError(
            f"{worker.worker_id} has another connector than twofold, lossy compression, or ranks"
            " that are not of tensor parallelism alone; prefixes are not pulled then"
        )


def check_pair(source: Worker, target: Worker) -> None:
    """Raises:
    CannotPullError: *target* cannot pull from *source*, or is the same.
    """
    if source.worker_id == target.worker_id:
        raise CannotPullError(f"{target.worker_id} cannot pull out of its own cache")
    check_pulls(target)
    check_pulls(source)
    if source.revision != target.revision:
        raise CannotPullError(
            f"{source.worker_id} is of revision {source.revision}, {target.worker_id} of"
            f" {target.revision}: the same prompt has other blocks there"
        )
    if source.engine.compatibility != target.engine.compatibility:
        raise CannotPullError(
            f"the engines of {source.worker_id} and {target.worker_id} do not go together"
        )
    there, here = source.engine.tensor_parallel, target.engine.tensor_parallel
    if here % there:
        raise CannotPullError(
            f"{source.worker_id} has an engine of {there} ranks, {target.worker_id} of {here},"
            " which is no multiple of it"
        )


def choose_source(
    found: Found, target: Worker, workers: Mapping[WorkerId, Worker]
) -> tuple[Worker, int]:
    """Return who of *workers* is known to hold most of the prompt and can give it to *target*, and
    how many tokens it holds.

    Raises:
        CannotPullError: nobody.
    """
    for share in found.shares:
        source = workers.get(share.worker)
        if source is not None and share.tier == DEFAULT_TIER and _can_pull(source, target):
            return source, share.token_count
    raise CannotPullError(
        f"no worker that {target.worker_id} can pull from is known to hold the first"
        f" {found.block_tokens} of the prompt's {found.token_count} tokens"
    )


def held_by(source: Worker, found: Found) -> int:
    """Return how many of the prompt's tokens *source* should be asked for: what is known of it,
    otherwise all, since it says itself which of them it holds."""
    for share in found.shares:
        if share.worker == source.worker_id and share.tier == DEFAULT_TIER:
            return share.token_count
    return found.token_count


def seconds_per_token(target: Worker) -> float:
    """Return what *target* is told that computing a token takes it, so that it pulls."""
    return PATIENCE * (target.load.seconds_per_prefill_token or UNMEASURED_SECONDS_PER_TOKEN)


def wanted_tokens(found: Found, held: int) -> int:
    """Return how many of the *held* tokens the prompt's worker can use, in full blocks.

    Raises:
        CannotPullError: none.
    """
    wanted = min(held, found.token_count - 1) // found.block_tokens * found.block_tokens
    if wanted <= 0:
        raise CannotPullError(
            f"nothing of a prompt of {found.token_count} tokens can be pulled: that takes a full"
            f" block of {found.block_tokens} and a token more"
        )
    return wanted


def _can_pull(source: Worker, target: Worker) -> bool:
    try:
        check_pair(source, target)
    except CannotPullError:
        return False
    return True
