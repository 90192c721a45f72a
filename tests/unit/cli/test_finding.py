import json

import pytest
from tests.unit.cli.test_kv import console, lines

from twofold_cli.finding import (
    Found,
    Share,
    as_json,
    by_revision,
    exit_code,
    found,
    prompt_body,
)
from twofold_cli.kv_tables import show_found
from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.worker import Engine, Worker
from twofold_engine.chains import Chain
from twofold_kvtransfer.directory import Holding

P0, D0 = WorkerId("p-0"), WorkerId("d-0")
CHAIN = Chain(token_count=70, block_tokens=16, blocks=("0a", "0b", "0c", "0d"))
FOUND = Found(
    "1",
    70,
    16,
    (
        Share(P0, Role.PREFILL, "GPU", 64, degraded=False),
        Share(P0, Role.PREFILL, "CPU", 16, degraded=True),
    ),
    (D0,),
)


def a_worker(worker_id: WorkerId, *, revision: str = "1") -> Worker:
    return Worker(
        worker_id=worker_id,
        incarnation=Incarnation("1"),
        service="local",
        role=Role.PREFILL,
        revision=revision,
        address="http://127.0.0.1:1",
        model="m",
        engine=Engine("v", "c"),
        kv_capacity_tokens=1,
        kv_block_tokens=1,
        max_model_tokens=1,
        kv_events="tcp://127.0.0.1:1",
    )


def held(worker_id: WorkerId, incarnation: str = "1", block_count: int = 4) -> Holding:
    return Holding(worker_id, Incarnation(incarnation), "GPU", block_count, degraded=False)


def test_a_share_is_in_tokens_of_full_blocks() -> None:
    what = found(CHAIN, [held(P0), held(D0, block_count=1)], {n: a_worker(n) for n in (P0, D0)}, ())

    assert [(share.worker, share.token_count) for share in what.shares] == [(P0, 64), (D0, 16)]
    assert (what.token_count, what.silent) == (70, ())


@pytest.mark.parametrize("holding", [held(D0), held(P0, "0"), held(P0, "2")])
def test_who_is_not_announced_in_this_incarnation_is_not_shown(holding: Holding) -> None:
    assert found(CHAIN, [holding], {P0: a_worker(P0)}, (P0,)).shares == ()


def test_who_is_not_listed_may_hold_anything() -> None:
    what = found(CHAIN, [], {P0: a_worker(P0), D0: a_worker(D0)}, (P0,))

    assert what.silent == (D0,)
    assert exit_code([what]) == 1
    assert exit_code([found(CHAIN, [], {P0: a_worker(P0)}, (P0,))]) == 0


def test_workers_are_asked_by_their_revisions() -> None:
    first, second = a_worker(D0), a_worker(WorkerId("x-0"))
    between = a_worker(P0, revision="2")

    assert by_revision([second, between, first]) == [[first, second], [between]]


def test_a_share_is_of_the_revision_that_was_asked_for() -> None:
    worker = a_worker(D0, revision="2")

    what = found(CHAIN, [held(P0), held(D0)], {D0: worker}, (P0, D0))

    assert what.revision == "2"
    assert [share.worker for share in what.shares] == [D0]


def test_a_prompt_is_asked_for_as_a_client_would_send_it() -> None:
    assert prompt_body("Hi", model=None, is_chat=False) == {"prompt": "Hi"}
    assert prompt_body("Hi", model="tuned", is_chat=True) == {
        "messages": [{"role": "user", "content": "Hi"}],
        "model": "tuned",
    }


def test_people_see_who_holds_how_much_of_a_prompt() -> None:
    screen = console()

    show_found([FOUND], screen)

    _, first, second, degraded, silent = lines(screen)
    assert first == "p-0 prefill 64 of 70 91 % GPU"
    assert second == "p-0 prefill 16 of 70 22 % CPU"
    assert degraded == "p-0: it may hold more"
    assert silent == "d-0: what it holds is not listed"


def test_people_see_that_nobody_holds_a_prompt() -> None:
    screen = console()

    show_found([Found("1", 70, 16, (), ())], screen)

    assert lines(screen) == ["no worker is known to hold the first 16 of the prompt's 70 tokens"]


def test_people_see_which_revision_is_spoken_of_where_there_are_several() -> None:
    screen = console()
    broken = Found("3", 0, 0, (), (), problem="p-9 does not name the prompt's blocks: 404")

    show_found([FOUND, Found("2", 70, 16, (), ()), broken], screen)

    first, *_, second, nobody, third, why = lines(screen)
    assert (first, second, third) == ("revision 1:", "revision 2:", "revision 3:")
    assert nobody.startswith("no worker is known to hold")
    assert why == "p-9 does not name the prompt's blocks: 404"


def test_a_revision_that_names_no_blocks_is_not_all() -> None:
    whole = Found("1", 70, 16, (), ())

    assert exit_code([whole]) == 0
    assert exit_code([whole, Found("2", 0, 0, (), (), problem="why")]) == 1


def test_machines_get_the_same() -> None:
    (told,) = json.loads(as_json([FOUND]))["revisions"]

    assert told["shares"][1] == {
        "worker": "p-0",
        "role": "prefill",
        "tier": "CPU",
        "token_count": 16,
        "degraded": True,
    }
    assert (told["token_count"], told["block_tokens"], told["silent"]) == (70, 16, ["d-0"])
    assert (told["revision"], told["problem"]) == ("1", None)
