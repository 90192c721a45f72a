"""Salts and models of a caller."""

import pytest

from twofold_cluster.errors import Fault, RequestError
from twofold_router.access import ANONYMOUS, Caller
from twofold_router.access.callers import tenant_salt


def a_caller(tenant: str, models: frozenset[str] | None = None) -> Caller:
    return Caller("k", tenant, tenant_salt(tenant), "default", models=models)


def test_tenants_do_not_share_a_salt() -> None:
    assert a_caller("a").cache_salt(None) != a_caller("b").cache_salt(None)
    assert a_caller("a").cache_salt(None) == a_caller("a").cache_salt(None)


def test_a_client_cannot_present_the_salt_of_another_tenant() -> None:
    victim = a_caller("a").cache_salt(None)

    assert a_caller("b").cache_salt(victim) != victim
    assert a_caller("b").cache_salt("x") != a_caller("a").cache_salt("x")


def test_a_client_divides_its_tenants_blocks_further() -> None:
    caller = a_caller("a")

    assert len({caller.cache_salt(own) for own in (None, "x", "y")}) == 3
    assert caller.cache_salt("") == caller.cache_salt(None)
    assert caller.cache_salt("\ud800")


def test_without_authentication_the_clients_own_salt_is_the_salt() -> None:
    assert ANONYMOUS.cache_salt(None) is None
    assert ANONYMOUS.cache_salt("x") == "x"


def test_a_key_may_use_its_models_only() -> None:
    caller = a_caller("a", frozenset({"small"}))

    caller.require_model("small")
    with pytest.raises(RequestError, match="large") as refusal:
        caller.require_model("large")

    assert (refusal.value.fault, refusal.value.param) == (Fault.FORBIDDEN, "model")


def test_a_key_without_models_may_use_all() -> None:
    a_caller("a").require_model("anything")
    ANONYMOUS.require_model("anything")
