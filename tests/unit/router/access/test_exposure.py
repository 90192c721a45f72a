"""Where a router may listen without keys."""

from pathlib import Path

import pytest

from twofold_router.access import InvalidAccessError, check_exposure

LOOPBACK = ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "localhost"]
EXPOSED = ["0.0.0.0", "::", "", "10.0.0.7", "2001:db8::1", "::ffff:10.0.0.7", "example.test"]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_needs_no_keys(host: str) -> None:
    check_exposure(host, None, insecure=False)


@pytest.mark.parametrize("host", EXPOSED)
def test_elsewhere_the_router_refuses_to_serve_without_keys(host: str) -> None:
    with pytest.raises(InvalidAccessError, match=r"--keys-file FILE.*--insecure"):
        check_exposure(host, None, insecure=False)


@pytest.mark.parametrize("host", EXPOSED)
def test_keys_or_an_explicit_word_allow_it(host: str) -> None:
    check_exposure(host, Path("keys.toml"), insecure=False)
    check_exposure(host, None, insecure=True)
