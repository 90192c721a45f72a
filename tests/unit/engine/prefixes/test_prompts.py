import json

import pytest

from twofold_cluster.apis import Api
from twofold_engine.prefixes.errors import InvalidPromptError
from twofold_engine.prefixes.prompts import read_prompt


def test_a_prompt_is_for_the_workers_model_unless_it_names_an_adapter() -> None:
    plain = read_prompt('{"prompt": "Hi"}', model="m")
    tuned = read_prompt('{"prompt": "Hi", "model": "tuned"}', model="m")

    assert json.loads(plain.body) == {"prompt": "Hi", "model": "m"}
    assert json.loads(tuned.body) == {"prompt": "Hi", "model": "tuned"}


def test_messages_are_a_chat_and_a_prompt_is_a_completion() -> None:
    assert read_prompt('{"prompt": "Hi"}', model="m").api is Api.COMPLETIONS
    assert read_prompt('{"messages": []}', model="m").api is Api.CHAT


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ("{}", "neither a prompt nor messages"),
        ('{"prompt": ["a", "b"]}', "one answer to one prompt: prompt"),
        ('{"prompt": "a", "n": 2}', "one answer to one prompt: n"),
    ],
)
def test_what_is_not_one_prompt_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidPromptError, match=why):
        read_prompt(text, model="m")
