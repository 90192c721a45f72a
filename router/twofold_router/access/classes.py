"""On which terms a request is served: its class, its key and its headers together.

The headers are those of llm-d and of the Gateway API Inference Extension:
``x-llm-d-inference-objective`` names a class, ``x-llm-d-slo-ttft-ms`` sets the deadline of this
one request, ``x-llm-d-inference-fairness-id`` names one of the tenant's flows.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from twofold_cluster.errors import Fault, RequestError
from twofold_router.access.callers import Caller
from twofold_router.access.errors import InvalidAccessError
from twofold_router.access.request_class import DEFAULT_CLASS, OnLate, RequestClass

OBJECTIVE = b"x-llm-d-inference-objective"
TTFT_SLO = b"x-llm-d-slo-ttft-ms"
FAIRNESS = b"x-llm-d-inference-fairness-id"

MAX_TTFT_SLO_SECONDS = 3600.0
MAX_FLOW_BYTES = 128

_MILLISECONDS = re.compile(rb"[0-9]{1,7}(\.[0-9]{1,3})?")
_FLOW = re.compile(rb"[!-~]{1,%d}" % MAX_FLOW_BYTES)
_REMEMBERED_TERMS = 4096


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms one request is served."""

    class_name: str
    """One of the classes that the operator told, never a client's word."""
    priority: int
    ttft_slo_seconds: float
    ttft_slo_seconds_per_token: float
    on_late: OnLate
    tenant: str
    flow: str | None = None
    """A client's word, unique only within the tenant: fairness is between tenants first, or a
    tenant would get more by naming more flows."""
    tpot_slo_seconds: float | None = None


class Classes(Mapping[str, RequestClass]):
    """All classes by name. ``default`` is always one of them."""

    def __init__(self, classes: Iterable[RequestClass] = ()) -> None:
        """Take *classes*; ``default`` may be among them.

        Raises:
            InvalidAccessError: two have one name.
        """
        self._by_name: dict[str, RequestClass] = {}
        for told in classes:
            if told.name in self._by_name:
                raise InvalidAccessError(f"class {told.name!r}: told twice")
            self._by_name[told.name] = told
        self._by_name.setdefault(DEFAULT_CLASS, RequestClass(DEFAULT_CLASS))
        # Bounded, because tenants come and go with the key file.
        self._plain_terms = lru_cache(_REMEMBERED_TERMS)(self._make_plain_terms)

    def __getitem__(self, name: str) -> RequestClass:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def resolve(self, headers: Mapping[bytes, bytes], caller: Caller) -> Terms:
        """Return the terms for *caller* with *headers*, whose names are in lower case.

        The objective may lower the priority of a key's class and never raise it: else everybody's
        requests would be the most important. An objective that no class has is ignored.

        Raises:
            RequestError: a header cannot be read; ``param`` names it.
        """
        if OBJECTIVE in headers or TTFT_SLO in headers or FAIRNESS in headers:
            return self._resolve_told(headers, caller)
        return self._plain_terms(caller.class_name, caller.tenant)

    def _resolve_told(self, headers: Mapping[bytes, bytes], caller: Caller) -> Terms:
        own = self._class_of(caller.class_name)
        objective = headers.get(OBJECTIVE, b"").decode("latin-1")
        chosen = self._by_name.get(objective, own)
        has_cap = caller.class_name is not None
        slo_seconds = _slo_seconds(headers.get(TTFT_SLO))
        return Terms(
            chosen.name,
            min(chosen.priority, own.priority) if has_cap else chosen.priority,
            chosen.ttft_slo_seconds if slo_seconds is None else slo_seconds,
            # The header is the whole of this request's SLO, its length included.
            chosen.ttft_slo_seconds_per_token if slo_seconds is None else 0.0,
            chosen.on_late,
            caller.tenant,
            _flow(headers.get(FAIRNESS)),
            chosen.tpot_slo_seconds,
        )

    def _make_plain_terms(self, class_name: str | None, tenant: str) -> Terms:
        own = self._class_of(class_name)
        return Terms(
            own.name,
            own.priority,
            own.ttft_slo_seconds,
            own.ttft_slo_seconds_per_token,
            own.on_late,
            tenant,
            tpot_slo_seconds=own.tpot_slo_seconds,
        )

    def _class_of(self, name: str | None) -> RequestClass:
        # The keyring has checked the name.
        return self._by_name[DEFAULT_CLASS if name is None else name]


def _slo_seconds(header: bytes | None) -> float | None:
    if not header:
        return None
    seconds = float(header) / 1000 if _MILLISECONDS.fullmatch(header) else 0.0
    if not 0.001 <= seconds <= MAX_TTFT_SLO_SECONDS:
        most = f"{MAX_TTFT_SLO_SECONDS * 1000:.0f}"
        raise _bad_header(TTFT_SLO, f"must be milliseconds from 1 to {most}")
    return seconds


def _flow(header: bytes | None) -> str | None:
    if not header:
        return None
    if not _FLOW.fullmatch(header):
        raise _bad_header(FAIRNESS, f"must be visible ASCII, at most {MAX_FLOW_BYTES} characters")
    return header.decode()


def _bad_header(name: bytes, why: str) -> RequestError:
    header = name.decode()
    return RequestError(Fault.INVALID_REQUEST, f"{header} {why}", param=header)
