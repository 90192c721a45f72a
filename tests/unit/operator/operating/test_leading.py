import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from twofold_operator.cluster_api import (
    ConflictError,
    Kind,
    Manifest,
    NotFoundError,
    UnavailableError,
)
from twofold_operator.operating.leading import Leadership, LeaseSettings, LostLeaseError

SECONDS = 0.06
LIMIT_SECONDS = 30.0


class OneLease:
    """An API server that has one Lease, or none, and may fail."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.failure: Exception | None = None
        self.before_read: Callable[[], None] = lambda: None
        self.writes = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        self._fail()
        self.before_read()
        if self.lease is None:
            raise NotFoundError("no lease", 404)
        return copy.deepcopy(self.lease)

    async def create(self, manifest: Manifest) -> Manifest:
        self._fail()
        if self.lease is not None:
            raise ConflictError("there is one", 409)
        return self._write(manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        self._fail()
        assert self.lease is not None
        if manifest["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ConflictError("another version", 409)
        return self._write(manifest)

    def change(self, holder: str) -> None:
        """Be written by somebody else."""
        before = self.lease or {"metadata": {"name": "lease"}, "spec": {}}
        spec = {**before["spec"], "holderIdentity": holder, "leaseDurationSeconds": 15}
        self._write({**before, "spec": spec})

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec

    def _write(self, manifest: Manifest) -> Manifest:
        self.writes += 1
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.writes)
        return copy.deepcopy(self.lease)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def leader(api: OneLease, identity: str = "us", clock: Clock | None = None) -> Leadership:
    settings = LeaseSettings("twofold", "operator", identity, SECONDS)
    return Leadership(api, settings, clock or Clock())  # type: ignore[arg-type]


async def test_a_lease_that_nobody_has_is_ours() -> None:
    api = OneLease()

    await asyncio.wait_for(leader(api).acquire(), LIMIT_SECONDS)

    assert api.spec["holderIdentity"] == "us"
    assert api.spec["leaseTransitions"] == 0


async def test_a_lease_that_is_renewed_is_not_taken() -> None:
    api, clock = OneLease(), Clock()
    api.change("them")
    renewals = 0

    def renew() -> None:
        nonlocal renewals
        renewals += 1
        clock.now += 14.0
        api.change("them")

    api.before_read = renew
    acquiring = asyncio.create_task(leader(api, clock=clock).acquire())
    while renewals < 5:
        await asyncio.sleep(SECONDS / 3)
    acquiring.cancel()

    assert api.spec["holderIdentity"] == "them"


async def test_a_lease_that_does_not_change_for_its_time_is_taken() -> None:
    api, clock = OneLease(), Clock()
    api.change("them")
    acquiring = asyncio.create_task(leader(api, clock=clock).acquire())
    await asyncio.sleep(SECONDS)
    assert not acquiring.done()

    clock.now += 15.0
    await asyncio.wait_for(acquiring, LIMIT_SECONDS)

    assert api.spec["holderIdentity"] == "us"
    assert api.spec["leaseTransitions"] == 1


async def test_a_lease_that_was_released_is_taken_at_once() -> None:
    api = OneLease()
    first = leader(api, "first")
    await first.acquire()
    await first.release()

    await asyncio.wait_for(leader(api, "second").acquire(), LIMIT_SECONDS)

    assert api.spec["holderIdentity"] == "second"


async def test_whoever_finds_the_lease_with_somebody_else_ends() -> None:
    api = OneLease()
    us = leader(api)
    await us.acquire()
    api.change("them")

    with pytest.raises(LostLeaseError, match="them"):
        await asyncio.wait_for(us.keep(), LIMIT_SECONDS)

    assert api.spec["holderIdentity"] == "them"


async def test_whoever_cannot_renew_for_two_thirds_of_the_time_ends() -> None:
    api, clock = OneLease(), Clock()
    us = leader(api, clock=clock)
    await us.acquire()
    api.failure = UnavailableError("no server")
    keeping = asyncio.create_task(us.keep())
    await asyncio.sleep(SECONDS)
    assert not keeping.done()

    clock.now += SECONDS

    with pytest.raises(LostLeaseError, match="not renewed"):
        await asyncio.wait_for(keeping, LIMIT_SECONDS)


async def test_a_version_that_somebody_else_made_of_our_lease_is_renewed() -> None:
    api = OneLease()
    us = leader(api)
    await us.acquire()
    api.change("us")
    writes = api.writes
    keeping = asyncio.create_task(us.keep())
    while api.writes < writes + 2:
        assert not keeping.done()
        await asyncio.sleep(SECONDS / 3)
    keeping.cancel()

    assert api.spec["holderIdentity"] == "us"
