"""Requests to the workers, and the time that they take."""

from collections.abc import Callable
from time import monotonic
from types import TracebackType

from twofold_cluster.worker import Worker
from twofold_router.gateway.parsing import Call
from twofold_router.http import Client, Response
from twofold_router.metrics import Leg, Metrics


class Upstream:
    """Sends a call's legs to workers."""

    __slots__ = ("_client", "_metrics")

    def __init__(self, client: Client, metrics: Metrics) -> None:
        self._client = client
        self._metrics = metrics

    def post(
        self,
        worker: Worker,
        call: Call,
        body: bytes,
        leg: Leg,
        *,
        on_sent: Callable[[], None] | None = None,
    ) -> "LegInFlight":
        """Send *body* to *worker*: a context whose value is the answer, of which the part that was
        not read in the end is aborted.

        *on_sent* is called when the whole request was handed to the connection. The caller bounds
        the time. To enter the context may raise:
            UnreachableError: the worker has not seen the request.
            BrokenError: it may have.
        """
        return LegInFlight(self._client, self._metrics, worker, call, body, leg, on_sent)


class LegInFlight:
    """One request to a worker. A class, because a generator would cost twice the time of this."""

    __slots__ = (
        "_began_at",
        "_body",
        "_call",
        "_client",
        "_leg",
        "_metrics",
        "_on_sent",
        "_response",
        "_worker",
    )

    def __init__(
        self,
        client: Client,
        metrics: Metrics,
        worker: Worker,
        call: Call,
        body: bytes,
        leg: Leg,
        on_sent: Callable[[], None] | None,
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._worker = worker
        self._call = call
        self._body = body
        self._leg = leg
        self._on_sent = on_sent
        self._response: Response | None = None
        self._began_at = 0.0

    async def __aenter__(self) -> Response:
        self._began_at = monotonic()
        call = self._call
        try:
            self._response = await self._client.request(
                self._worker.address,
                "POST",
                call.api.value,
                call.headers,
                self._body,
                on_sent=self._on_sent,
            )
        except BaseException:
            self._metrics.leg(self._leg, monotonic() - self._began_at)
            raise
        return self._response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._response is not None
        self._response.close()
        self._metrics.leg(self._leg, monotonic() - self._began_at)
