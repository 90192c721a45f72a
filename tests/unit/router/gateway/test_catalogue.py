"""Which names clients may send as the model."""

import msgspec

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import WorkerState
from twofold_router.gateway.catalogue import Catalogue
from twofold_router.testing import make_worker

W1 = make_worker("w1", Role.BOTH, model="m", adapters=("b", "a"))
W2 = make_worker("w2", Role.BOTH, model="m")


def catalogue() -> Catalogue:
    made = Catalogue()
    made.follow([W1, W2], [])
    return made


def test_names_are_those_of_models_and_adapters_in_order() -> None:
    models = catalogue().models

    assert models == {"a": "m", "b": "m", "m": "m"}
    assert list(models) == ["a", "b", "m"]


def test_all_names_of_a_model_are_models_and_its_adapters_are_those_of_the_first() -> None:
    made = catalogue()
    made.follow([msgspec.structs.replace(W1, aliases=("n", "l"))], [])

    assert made.models == {"a": "m", "b": "m", "l": "l", "m": "m", "n": "n"}


def test_a_name_goes_with_the_last_worker_that_has_it() -> None:
    made = catalogue()
    made.follow([], [W1.worker_id, WorkerId("unknown")])
    without = dict(made.models)
    made.follow([], [W2.worker_id])

    assert without == {"m": "m"}
    assert made.models == {}


def test_a_name_of_given_workers_stays_until_one_comes_back_with_another() -> None:
    made = Catalogue(keeps_gone=True)
    made.follow([W1, W2], [])
    made.follow([], [W1.worker_id, W2.worker_id])
    without = dict(made.models)
    made.follow([make_worker("w1", Role.BOTH, model="n")], [])

    assert without == {"a": "m", "b": "m", "m": "m"}
    assert made.models == {"m": "m", "n": "n"}


def test_a_name_stays_while_its_workers_drain() -> None:
    made = catalogue()
    made.follow([msgspec.structs.replace(W1, state=WorkerState.DRAINING)], [W2.worker_id])

    assert "a" in made.models


def test_an_adapter_comes_and_goes_with_what_its_worker_announces() -> None:
    made = catalogue()
    made.follow([msgspec.structs.replace(W1, adapters=("c",))], [])

    assert made.models == {"c": "m", "m": "m"}


def test_an_adapter_never_hides_a_model() -> None:
    made = catalogue()
    made.follow([make_worker("w3", Role.BOTH, model="m2", adapters=("m",))], [])

    assert made.models["m"] == "m"
