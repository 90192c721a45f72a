"""New keys and their entries."""

import re

from hypothesis import given
from hypothesis import strategies as st

from twofold_router.access.key_file import KeyEntry, parse_keys
from twofold_router.access.minting import hash_of, new_key, render_entry

VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


def test_a_key_is_random_and_known_by_its_prefix() -> None:
    keys = {new_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(re.fullmatch(r"tf-[A-Za-z0-9_-]{43}", key) for key in keys)


@given(salt=st.none() | VISIBLE, models=st.none() | st.lists(VISIBLE, min_size=1, max_size=3))
def test_an_entry_that_is_written_is_read_again(salt: str | None, models: list[str] | None) -> None:
    entry = KeyEntry(
        name="n", hash=hash_of("tf-x"), tenant="t", tokens_per_minute=7, salt=salt, models=models
    )

    [caller] = parse_keys(render_entry(entry).encode(), {"default"}).values()

    assert caller == entry.caller()
