"""Who asks."""

from dataclasses import dataclass
from hashlib import sha256

from twofold_cluster.errors import Fault, RequestError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may ask for. None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Of prompts and answers together."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One API key, without the key."""

    name: str
    tenant: str
    salt: str | None
    """Keeps the tenant's KV blocks from other tenants; None: blocks are shared by all."""
    class_name: str | None
    """The class of its requests, and the cap of their priority; None: the default class, no cap."""
    limits: Limits | None = None
    """None: no limits, and so nothing to ask a limiter."""
    models: frozenset[str] | None = None
    """None: all."""

    def require_model(self, model: str) -> None:
        """Check that this caller may use *model*. Ask this before looking the model up: then the
        answer does not tell which models exist.

        Raises:
            RequestError: it may not.
        """
        if self.models is not None and model not in self.models:
            message = f"this API key may not use the model {model[:100]!r}"
            raise RequestError(Fault.FORBIDDEN, message, param="model")

    def cache_salt(self, own: str | None) -> str | None:
        """Return the salt that an engine is told when the client's body says *own*.

        A client's own salt divides the tenant's blocks further. It never replaces the tenant's, or
        whoever guesses another tenant's salt could read from timing what that tenant has asked.
        """
        if self.salt is None or not own:
            return own or self.salt
        return sha256(f"{self.salt}\0{own}".encode(errors="surrogatepass")).hexdigest()


ANONYMOUS = Caller(name="anonymous", tenant="anonymous", salt=None, class_name=None)
"""Everybody, while authentication is off. Whoever is in front of the router is trusted with the
headers: without a key there is no cap on the priority."""


def shared_salt(told: str) -> str:
    """Return the salt of the tenants whose entries have the salt *told*. It is a hash, since vLLM
    takes neither all characters nor more than 128 of them
    (vllm/entrypoints/generate/base/protocol.py, ``validate_cache_salt``)."""
    return _salt(b"twofold shared salt\0", told)


def tenant_salt(tenant: str) -> str:
    """Return the salt of a tenant that has none of its own. It need not be secret: a client
    cannot present it (see ``Caller.cache_salt``)."""
    return _salt(b"twofold cache salt\0", tenant)


def _salt(purpose: bytes, text: str) -> str:
    return sha256(purpose + text.encode()).hexdigest()[:32]
