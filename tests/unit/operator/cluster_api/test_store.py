from typing import Any

from twofold_operator.cluster_api import LLM_SERVICES, ServiceKey, Store
from twofold_operator.planning.names import labels

CHAT = ServiceKey("models", "chat")


def test_what_is_older_than_what_is_held_is_dropped() -> None:
    store = Store(lambda _key: None)
    store.put(_deployment(version=7))

    assert not store.put(_deployment(version=6))
    assert _version(store) == "7"


def test_the_same_version_wakes_nobody_again() -> None:
    woken: list[ServiceKey] = []
    store = Store(woken.append)
    store.put(_deployment(version=7))
    store.put(_deployment(version=7))

    assert woken == [CHAT]


def test_a_list_takes_what_is_gone_and_leaves_what_is_newer() -> None:
    store = Store(lambda _key: None)
    store.put(_service("chat", version=3))
    store.put(_service("other", version=9))
    differences = store.replace_all(LLM_SERVICES, None, [], "5")

    assert differences == 1
    assert store.services() == [ServiceKey("models", "other")]


def test_a_list_of_one_namespace_takes_nothing_of_another() -> None:
    store = Store(lambda _key: None)
    store.put(_service("chat", version=3))
    store.replace_all(LLM_SERVICES, "elsewhere", [], "5")

    assert store.services() == [CHAT]


def test_nothing_is_told_of_a_namespace_that_is_left_out_until_it_is_back() -> None:
    woken: list[ServiceKey] = []
    store = Store(woken.append)
    store.put(_service("chat", version=3))
    store.put(_adapter("chat", version=4))
    woken.clear()

    store.leave_out({"models"})
    assert woken == [CHAT]
    assert (store.services(), store.observed(CHAT), store.adapters(CHAT)) == ([], None, ())

    store.leave_out({"elsewhere"})
    assert woken == [CHAT, CHAT]
    assert store.services() == [CHAT]
    assert store.adapters(CHAT) != ()


def test_the_end_of_an_earlier_life_does_not_take_its_successor() -> None:
    store = Store(lambda _key: None)
    store.put(_deployment(version=7, uid="second"))

    assert not store.remove(_deployment(version=6, uid="first"))
    assert _version(store) == "7"


def test_an_adapter_that_moves_to_another_service_wakes_both() -> None:
    woken: set[ServiceKey] = set()
    store = Store(woken.add)
    store.put(_adapter("chat", version=1))
    woken.clear()
    store.put(_adapter("other", version=2))

    assert woken == {CHAT, ServiceKey("models", "other")}
    assert store.adapters(CHAT) == ()


def test_managed_fields_are_not_held() -> None:
    store = Store(lambda _key: None)
    service = _service("chat", version=1)
    service["metadata"]["managedFields"] = [{}]
    store.put(service)

    held = store.service(CHAT)
    assert held is not None
    assert "managedFields" not in held["metadata"]


def _version(store: Store) -> str:
    return str(store.children(CHAT)["Deployment", "chat-router"]["metadata"]["resourceVersion"])


def _manifest(api_version: str, kind: str, name: str, version: int, uid: str) -> dict[str, Any]:
    metadata = {"namespace": "models", "name": name, "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": {}}


def _deployment(version: int, uid: str = "one") -> dict[str, Any]:
    made = _manifest("apps/v1", "Deployment", "chat-router", version, uid)
    made["metadata"]["labels"] = labels("chat", "router")
    return made


def _service(name: str, version: int) -> dict[str, Any]:
    return _manifest("serving.twofold.dev/v1alpha1", "LLMService", name, version, name)


def _adapter(service: str, version: int) -> dict[str, Any]:
    made = _manifest("serving.twofold.dev/v1alpha1", "LoRAAdapter", "sql", version, "sql")
    made["spec"]["service"] = service
    return made
