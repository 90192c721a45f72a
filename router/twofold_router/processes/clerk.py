"""What the placement process does for one gateway process."""

from collections.abc import Callable, Sequence

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_router.gateway import Dispatcher
from twofold_router.placement import Decision, Dispatch
from twofold_router.processes.link import Handlers
from twofold_router.processes.messages import (
    Cancel,
    DecodeMoved,
    Finish,
    Message,
    MoveDecode,
    Placed,
    PromptComputed,
    Refused,
    Submit,
    Suspect,
    Welcome,
    WorkersChanged,
)


class Clerk:
    """Has requests placed, and gives all of them back when their process has gone.

    Invariants: ``_held`` has the requests that the process has in the placement, True if they are
    dispatched. ``_announced`` has the workers as the process knows them, and a decision names only
    such.
    """

    def __init__(self, dispatcher: Dispatcher, send: Callable[[Message], None]) -> None:
        self._dispatcher = dispatcher
        self._send = send
        self._held: dict[str, bool] = {}
        self._announced: dict[WorkerId, Worker] = {}

    def handlers(self) -> Handlers:
        """Return what is done with the messages that are a clerk's alone."""
        return {
            Submit: self._submit,
            Cancel: self._cancel,
            PromptComputed: self._prompt_computed,
            MoveDecode: self._move_decode,
            Finish: self._finish,
        }

    def welcome(self) -> None:
        """Tell the process of the workers, before anything else."""
        workers = list(self._dispatcher.workers)
        self._announced.update((worker.worker_id, worker) for worker in workers)
        self._send(Welcome(workers, self._dispatcher.is_stale))

    def follow(self, changed: Sequence[Worker], gone: Sequence[Worker]) -> None:
        """Tell the process of workers."""
        self._announced.update((worker.worker_id, worker) for worker in changed)
        for worker in gone:
            self._announced.pop(worker.worker_id, None)
        self._send(WorkersChanged(list(changed), [worker.worker_id for worker in gone]))

    def suspect(self, message: Suspect) -> None:
        """Give a worker nothing new for a while."""
        worker = self._announced.get(message.worker_id)
        if worker is not None and worker.incarnation == message.incarnation:
            self._dispatcher.suspect(worker)

    def close(self) -> None:
        """Give back all that the process has."""
        # Those who wait come first, so that none of them is dispatched in vain.
        for request_id in sorted(self._held, key=self._held.__getitem__):
            self._give_back(request_id)

    def _submit(self, message: Submit) -> None:
        self._held[message.request.request_id] = False
        self._dispatcher.submit(message.request, self._decide)

    def _cancel(self, message: Cancel) -> None:
        self._give_back(message.request_id)

    def _prompt_computed(self, message: PromptComputed) -> None:
        self._dispatcher.prefilled(message.request_id, message.usage)

    def _move_decode(self, message: MoveDecode) -> None:
        worker = self._dispatcher.move_decode_now(message.request_id, message.avoid)
        worker_id = None if worker is None else self._id_of(worker)
        self._send(DecodeMoved(message.request_id, worker_id))

    def _finish(self, message: Finish) -> None:
        del self._held[message.request_id]
        self._dispatcher.finished(message.request_id, message.outcome)

    def _give_back(self, request_id: str) -> None:
        """Give back what is known here of a request, which may be more than its process knows."""
        is_dispatched = self._held.pop(request_id, None)
        if is_dispatched:
            self._dispatcher.finished(request_id, None)
        elif is_dispatched is not None:
            self._dispatcher.cancel(request_id)

    def _decide(self, decision: Decision) -> None:
        request_id = decision.request_id
        if not isinstance(decision, Dispatch):
            del self._held[request_id]
            self._send(Refused.of(decision))
            return
        self._held[request_id] = True
        prefill = decision.prefill
        self._send(
            Placed(
                request_id=request_id,
                prefill=None if prefill is None else self._id_of(prefill),
                decode=self._id_of(decision.decode),
                mode=decision.mode,
                reason=decision.reason,
                prompt_tokens=decision.prompt_tokens,
                cached_tokens=decision.cached_tokens,
                ttft_seconds=decision.ttft_seconds,
                decided_at=decision.decided_at,
                prefix_source=decision.prefix_source,
            )
        )

    def _id_of(self, worker: Worker) -> WorkerId:
        """Return the id, and have told of the worker before: a change decides about some requests
        before it is announced."""
        if self._announced.get(worker.worker_id) is not worker:
            self._announced[worker.worker_id] = worker
            self._send(WorkersChanged([worker], []))
        return worker.worker_id
