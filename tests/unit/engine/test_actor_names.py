import pytest

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_engine.pools.actor_names import ActorName, parse


def name(service: str, worker_id: str) -> ActorName:
    return ActorName(service, WorkerId(worker_id), Incarnation("0190-ab"))


def test_a_name_is_read_back_as_it_was_written() -> None:
    written = name("space.name", "space-name-1-prefill-0")

    assert parse(str(written)) == written


@pytest.mark.parametrize("text", ["", "SERVE_CONTROLLER_ACTOR", "a/b", "a/b/c/d"])
def test_what_others_call_their_actors_is_no_name_of_ours(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("worker_id", ["one-prefill-0", "one-decode-12", "one-both-3"])
def test_a_worker_is_of_the_prefix_that_its_id_was_made_with(worker_id: str) -> None:
    assert name("s", worker_id).is_of("s", "one")


@pytest.mark.parametrize(
    ("service", "prefix"), [("s", "on"), ("s", "one-two"), ("s", "one-two-three"), ("t", "one")]
)
def test_prefixes_and_services_whose_names_contain_each_other_are_told_apart(
    service: str, prefix: str
) -> None:
    assert not name(service, f"{prefix}-prefill-0").is_of("s", "one")
    assert not name("s", "one-prefill-0").is_of(service, prefix)
