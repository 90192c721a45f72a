"""Requests to the workers, and the time that they take."""

from collections.abc import Callable
from time import monotonic
from types import TracebackType

from twofold_cluster.worker import Worker
from twofold_router.gateway.parsing import Call
from twofold_router.http import Client, HeaderPairs, Response
from twofold_router.metrics import Leg, Metrics


class Upstream:
    """Sends a call's legs to workers, with *headers* beside the call's own."""

    __slots__ = ("_client", "_headers", "_metrics")

    def __init__(self, client: Client, metrics: Metrics, headers: HeaderPairs = ()) -> None:
        self._client = client
        self._headers = headers
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

        *on_sent* is called when the kernel has taken the whole request. The caller bounds the time.
        To enter the context may raise:
            UnreachableError: the worker has not seen the request.
            BrokenError: it may have.
        """
        headers = [*call.headers, *self._headers] if self._headers else call.headers
        return LegInFlight(
            self._client, self._metrics, worker, call.api.value, headers, body, leg, on_sent
        )


class LegInFlight:
    """One request to a worker. A class, because a generator would cost twice the time of this."""

    __slots__ = (
        "_began_at",
        "_body",
        "_client",
        "_headers",
        "_leg",
        "_metrics",
        "_on_sent",
        "_path",
        "_response",
        "_worker",
    )

    def __init__(
        self,
        client: Client,
        metrics: Metrics,
        worker: Worker,
        path: str,
        headers: HeaderPairs,
        body: bytes,
        leg: Leg,
        on_sent: Callable[[], None] | None,
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._worker = worker
        self._path = path
        self._headers = headers
        self._body = body
        self._leg = leg
        self._on_sent = on_sent
        self._response: Response | None = None
        self._began_at = 0.0

    async def __aenter__(self) -> Response:
        self._began_at = monotonic()
        try:
            self._response = await self._client.request(
                self._worker.address,
                "POST",
                self._path,
                self._headers,
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
