import json

from tests.unit.cli.test_kv import console, lines

from twofold_cli.finding import as_json, exit_code, prompt_body
from twofold_cli.kv_tables import show_found
from twofold_cluster.identity import Role, WorkerId
from twofold_engine.prefixes.finding import Found, Share

P0, D0 = WorkerId("p-0"), WorkerId("d-0")
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


def test_a_prompt_shorter_than_a_block_is_said_to_be_so() -> None:
    screen = console()

    show_found([Found("1", 1, 16, (), ()), Found("1", 15, 16, (), ())], screen)

    _, one, _, more = lines(screen)
    assert one == "a prompt of 1 token does not fill a block, which has 16"
    assert more == "a prompt of 15 tokens does not fill a block, which has 16"


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

    assert exit_code([FOUND]) == 1
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
