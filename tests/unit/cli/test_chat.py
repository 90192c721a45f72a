from twofold_cli.chat import route


def test_the_way_of_an_answer_is_mode_and_workers() -> None:
    headers = {
        "x-twofold-mode": "disaggregated",
        "x-twofold-prefill": "p-0",
        "x-twofold-decode": "d-1",
    }

    assert route(headers) == "[mode: disaggregated, prefill: p-0, decode: d-1]"


def test_a_fallback_tells_its_reason() -> None:
    headers = {"x-twofold-mode": "fallback", "x-twofold-reason": "no_prefill_worker"}

    assert route(headers) == "[mode: fallback, reason: no_prefill_worker]"
