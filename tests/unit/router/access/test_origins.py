"""What a browser sends as the origin of a page."""

import pytest

from twofold_router.access import is_origin


@pytest.mark.parametrize(
    "text",
    ["*", "https://a.example", "http://localhost:3000", "http://[::1]:80", "chrome-extension://ab"],
)
def test_an_origin_is_a_scheme_and_a_host_and_perhaps_a_port(text: str) -> None:
    assert is_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a.example", "https://a.example/", "https://A.example", "https://*.example", "null"),
        *("https://a.example, https://b.example", "https://a.example\r\nx: y", "https://", "**"),
    ],
)
def test_what_no_browser_sends_is_none(text: str) -> None:
    assert not is_origin(text)
