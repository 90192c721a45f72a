"""How long an end may take."""

from twofold_router.gateway.server import BACKGROUND_DRAIN_SECONDS
from twofold_router.http.server import CANCEL_SECONDS, LAST_WORDS_SECONDS
from twofold_router.processes.ending import end_seconds
from twofold_router.settings import RouterSettings


def test_an_end_that_takes_all_its_time_is_no_hang() -> None:
    settings = RouterSettings(service="s", drain_timeout_seconds=7.5)

    longest = 7.5 + LAST_WORDS_SECONDS + BACKGROUND_DRAIN_SECONDS + CANCEL_SECONDS
    assert longest < end_seconds(settings) < longest + 5
