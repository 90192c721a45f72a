"""One acts: whoever holds the Lease."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twofold_cluster.errors import TwofoldError
from twofold_operator.cluster_api import (
    LEASES,
    ClusterApi,
    ClusterApiError,
    ConflictError,
    Manifest,
    NotFoundError,
)

_log = logging.getLogger(__name__)


class LostLeaseError(TwofoldError):
    """Somebody else may act now, so this process must end."""


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    namespace: str
    name: str
    identity: str
    seconds: float


class Leadership:
    """Holds the Lease, or waits for it.

    Clocks of two machines are not compared: a Lease is over when it has not changed for its whole
    time by our own clock, and ours when we could not renew it for two thirds of that.
    """

    def __init__(
        self,
        api: ClusterApi,
        settings: LeaseSettings,
        monotonic: Callable[[], float],
    ) -> None:
        self._api = api
        self._settings = settings
        self._monotonic = monotonic
        self._lease: Manifest | None = None

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        seen: tuple[str, float] | None = None
        _log.info("waits for the lease", extra={"identity": self._settings.identity})
        while True:
            try:
                lease = await self._read()
                if lease is None:
                    self._lease = await self._api.create(self._manifest({}))
                    break
                version = lease["metadata"].get("resourceVersion", "")
                if seen is None or seen[0] != version:
                    seen = version, self._monotonic()
                if _is_free(lease) or self._monotonic() - seen[1] >= _duration(lease):
                    self._lease = await self._api.replace(self._manifest(lease))
                    break
            except ConflictError:
                pass  # somebody else was faster
            except ClusterApiError as error:
                _log.warning("cannot have the lease", extra={"said": str(error)})
            await asyncio.sleep(self._settings.seconds / 3)
        _log.info("leads", extra={"identity": self._settings.identity})

    async def keep(self) -> None:
        """Renew the Lease until cancelled.

        Raises:
            LostLeaseError: it could not be renewed in time, or somebody else has it.
        """
        limit_seconds = self._settings.seconds * 2 / 3
        renewed = self._monotonic()
        while True:
            await asyncio.sleep(self._settings.seconds / 3)
            began = self._monotonic()
            left_seconds = limit_seconds - (began - renewed)
            if left_seconds <= 0:
                raise LostLeaseError(f"the lease was not renewed for {limit_seconds:g} s")
            try:
                async with asyncio.timeout(left_seconds):
                    await self._renew()
            except TimeoutError as error:
                raise LostLeaseError(f"the lease was not renewed in {limit_seconds:g} s") from error
            except (ClusterApiError, NotFoundError) as error:
                _log.warning("cannot renew the lease", extra={"said": str(error)})
            else:
                renewed = began

    async def release(self) -> None:
        """Let the next one have it at once."""
        if self._lease is None:
            return
        lease, self._lease = self._lease, None
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            async with asyncio.timeout(self._settings.seconds / 3):
                await self._api.replace({**lease, "spec": spec})
        except (ClusterApiError, TimeoutError) as error:
            _log.info("the lease was not released", extra={"said": str(error)})

    async def _renew(self) -> None:
        assert self._lease is not None
        try:
            self._lease = await self._api.replace(self._manifest(self._lease))
        except ConflictError:
            lease = await self._read()
            holder = (lease or {}).get("spec", {}).get("holderIdentity")
            if lease is None or holder != self._settings.identity:
                raise LostLeaseError(f"the lease is {holder}'s") from None
            # An answer was lost, or somebody labelled it.
            self._lease = await self._api.replace(self._manifest(lease))

    async def _read(self) -> Manifest | None:
        try:
            return await self._api.get(LEASES, self._settings.namespace, self._settings.name)
        except NotFoundError:
            return None

    def _manifest(self, lease: Manifest) -> Manifest:
        settings = self._settings
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec: dict[str, Any] = dict(lease.get("spec") or {})
        if spec.get("holderIdentity") != settings.identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + bool(lease)
        spec |= {
            "holderIdentity": settings.identity,
            "leaseDurationSeconds": max(1, round(settings.seconds)),
            "renewTime": now,
        }
        named = {"name": settings.name, "namespace": settings.namespace}
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {**(lease.get("metadata") or {}), **named},
            "spec": spec,
        }


def _is_free(lease: Manifest) -> bool:
    return not (lease.get("spec") or {}).get("holderIdentity")


def _duration(lease: Manifest) -> float:
    return float((lease.get("spec") or {}).get("leaseDurationSeconds") or 0)
