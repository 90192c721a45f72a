from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.apis import Api
from twofold_cluster.canonical import canonical_bytes
from twofold_cluster.fields import decode_fields

Json = dict[str, Any]

# With what a text would need to look like a border, were 0xFF not impossible in UTF-8.
texts = st.text(alphabet=st.sampled_from('ab"=,#!mfte{}ÿ\n\0é漢😀'), max_size=8)
images = texts.map(lambda url: {"type": "image_url", "image_url": {"url": url}})
text_parts = texts.map(lambda text: {"type": "text", "text": text})
tool_results = st.builds(
    lambda call_id, content: {"type": "tool_result", "tool_use_id": call_id, "content": content},
    texts,
    st.lists(text_parts | images, min_size=1, max_size=2),
)
other_parts = st.builds(lambda kind, x: {"type": kind, "x": x}, st.sampled_from("ab"), texts)
parts = text_parts | images | tool_results | other_parts
tool_calls = st.builds(
    lambda name, arguments: {"function": {"name": name, "arguments": arguments}}, texts, texts
)


def text_of(text: str) -> Json:
    return {"type": "text", "text": text}


def result_of(*content: Json) -> Json:
    return {"type": "tool_result", "content": list(content)}


messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "mf"])},
    optional={
        "content": st.lists(parts, min_size=1, max_size=3),
        "output": texts,
        "name": texts,
        "tool_call_id": texts,
        "reasoning_content": texts,
        "x": st.integers(),
        "tool_calls": st.lists(tool_calls, min_size=1, max_size=2),
    },
)
tools = st.builds(lambda name: {"type": "function", "function": {"name": name}}, texts)
chats = st.fixed_dictionaries(
    {"messages": st.lists(messages, max_size=4)},
    optional={
        "tools": st.lists(tools, min_size=1, max_size=2),
        "chat_template": texts,
        "reasoning_effort": texts,
        "documents": st.lists(st.just({"title": "a"}), min_size=1, max_size=2),
    },
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text"]) | texts, inner)
    ),
    max_leaves=8,
)
conversations = pytest.mark.parametrize(
    ("api", "name"), [(Api.CHAT, "messages"), (Api.RESPONSES, "input"), (Api.MESSAGES, "messages")]
)


@conversations
@given(chat=chats, more=st.lists(messages, max_size=3))
def test_a_conversation_is_the_beginning_of_its_continuation(
    api: Api, name: str, chat: Json, more: list[Json]
) -> None:
    before = {**chat, name: chat["messages"]}
    after = {**chat, name: chat["messages"] + more}

    assert canonical(api, after).startswith(canonical(api, before))


@conversations
@given(chat=chats, text=texts, more=texts, as_part=st.booleans())
def test_a_text_that_goes_on_changes_nothing_before_its_end(
    api: Api, name: str, chat: Json, text: str, more: str, as_part: bool
) -> None:
    def ending_with(last: str) -> Json:
        content = [{"type": "text", "text": last}] if as_part else last
        message = {"content": content, "name": "n", "role": "user"}
        return {**chat, name: [*chat["messages"], message]}

    longer = canonical(api, ending_with(text + more))
    assert longer.startswith(canonical(api, ending_with(text)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([text_of("a"), text_of("b")], [text_of('a"b')]),
        ([result_of(text_of("a")), text_of("b")], [result_of(text_of("a"), text_of("b"))]),
        ([result_of(), text_of("b")], [result_of(text_of("b"))]),
        ([text_of("a"), {"type": "x"}], [{"type": "x"}, text_of("a")]),
        ([{"type": "text", "text": "a", "x": 1}], [text_of("a")]),
        ([{"type": "refusal", "refusal": "a"}], [text_of("a")]),
    ],
)
def test_where_a_part_ends_makes_a_difference(one: list[Json], other: list[Json]) -> None:
    both = [{"messages": [{"role": "user", "content": content}]} for content in (one, other)]

    assert canonical(Api.CHAT, both[0]) != canonical(Api.CHAT, both[1])


@given(one=chats, other=chats)
def test_different_conversations_have_different_bytes(one: Json, other: Json) -> None:
    assert (canonical(Api.CHAT, one) == canonical(Api.CHAT, other)) == (one == other)


@given(words=texts, inside=texts)
def test_a_text_cannot_imitate_another_message(words: str, inside: str) -> None:
    two = [{"role": "user", "content": words}, {"role": "assistant", "content": inside}]
    frames = canonical(Api.CHAT, {"messages": two}).decode("latin-1")

    forged = canonical(Api.CHAT, {"messages": [{"role": "user", "content": frames}]})

    assert not forged.startswith(canonical(Api.CHAT, {"messages": two}))


@given(chat=chats, order=st.randoms(use_true_random=False), indent=st.integers(1, 4))
def test_neither_the_order_of_keys_nor_white_space_matters(
    chat: Json, order: Any, indent: int
) -> None:
    shuffled = msgspec.json.format(msgspec.json.encode(shuffle(chat, order)), indent=indent)

    assert canonical_bytes(Api.CHAT, decode_fields(shuffled)) == canonical(Api.CHAT, chat)


@given(text=texts)
def test_one_text_is_the_same_in_all_its_dialects(text: str) -> None:
    contents = [
        text,
        [text],
        [{"type": "text", "text": text}],
        [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}],
        [{"type": "input_text", "text": text}],
        [{"type": "output_text", "text": text, "annotations": [], "logprobs": None}],
    ]
    chats = [{"messages": [{"role": "user", "content": content}]} for content in contents]

    all_bytes = {canonical(Api.CHAT, chat) for chat in chats}
    all_bytes.add(canonical(Api.MESSAGES, chats[0]))
    all_bytes.add(canonical(Api.RESPONSES, {"input": text}))
    message = {"type": "message", "role": "user", "content": contents[4], "id": None}
    all_bytes.add(canonical(Api.RESPONSES, {"input": [message]}))

    assert len(all_bytes) == 1


def test_a_message_that_a_client_sends_back_with_its_nulls_is_the_message() -> None:
    short = {"role": "assistant", "content": "a"}
    long: Json = {**short, "refusal": None, "audio": None, "annotations": [], "tool_calls": []}

    assert canonical(Api.CHAT, {"messages": [long]}) == canonical(Api.CHAT, {"messages": [short]})


@pytest.mark.parametrize(
    "part",
    [
        lambda data: {"type": "image_url", "image_url": {"url": data}},
        lambda data: {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        lambda data: {"type": "video_url", "video_url": {"url": data}},
        lambda data: {"type": "file", "file": {"file_data": data}},
        lambda data: {"type": "image", "source": {"type": "base64", "data": data}},
        lambda data: {"type": "input_image", "image_url": data},
    ],
)
def test_what_is_no_text_counts_by_its_digest(part: Any) -> None:
    small, large = (
        canonical(Api.CHAT, {"messages": [{"role": "user", "content": [part(data)]}]})
        for data in ("A", "A" * 100_000)
    )

    assert len(small) == len(large)
    assert small != large


def test_a_result_of_a_tool_is_text_that_can_grow() -> None:
    def with_result(text: str) -> Json:
        result = {"type": "tool_result", "tool_use_id": "t", "content": text}
        return {"messages": [{"role": "user", "content": [result]}]}

    short, long = (canonical(Api.MESSAGES, with_result(text)) for text in ("a" * 50, "a" * 5000))

    assert long.startswith(short[:50])
    assert len(long) == len(short) + 4950


def test_a_marker_of_anthropics_may_move_from_turn_to_turn() -> None:
    marker = {"cache_control": {"type": "ephemeral"}}
    text, tool = {"type": "text", "text": "a"}, {"name": "t", "input_schema": {}}
    image: Json = {"type": "image", "source": {}}
    parts: list[Json] = [text, image, {"type": "tool_result", "content": "a"}]
    plain = {"system": [text], "tools": [tool], "messages": [{"role": "user", "content": parts}]}
    marked = {
        "system": [text | marker],
        "tools": [tool | marker],
        "messages": [{"role": "user", "content": [part | marker for part in parts]}],
    }

    assert canonical(Api.MESSAGES, marked) == canonical(Api.MESSAGES, plain)


def test_the_line_that_the_engine_leaves_out_counts_for_nothing() -> None:
    def with_line(number: int) -> Json:
        line = {"type": "text", "text": f"x-anthropic-billing-header: {number}"}
        inline = {"role": "system", "content": line["text"]}
        user = {"role": "user", "content": "hello"}
        return {"system": [line, {"type": "text", "text": "a"}], "messages": [inline, user]}

    assert canonical(Api.MESSAGES, with_line(1)) == canonical(Api.MESSAGES, with_line(2))


def test_the_first_words_of_a_conversation_are_a_system_message_in_every_api() -> None:
    user = {"role": "user", "content": "b"}
    chat = canonical(Api.CHAT, {"messages": [{"role": "system", "content": "a"}, user]})

    assert canonical(Api.MESSAGES, {"system": "a", "messages": [user]}) == chat
    assert canonical(Api.RESPONSES, {"instructions": "a", "input": [user]}) == chat


@pytest.mark.parametrize(
    ("api", "setting"),
    [
        (Api.CHAT, {"tools": [{"type": "function"}]}),
        (Api.CHAT, {"chat_template": "x"}),
        (Api.CHAT, {"chat_template_kwargs": {"enable_thinking": False}}),
        (Api.CHAT, {"documents": [{"title": "t"}]}),
        (Api.CHAT, {"reasoning_effort": "low"}),
        (Api.RESPONSES, {"reasoning": {"effort": "low"}}),
        (Api.RESPONSES, {"previous_response_id": "r"}),
        (Api.MESSAGES, {"thinking": {"type": "disabled"}}),
        (Api.MESSAGES, {"output_config": {"effort": "low"}}),
    ],
)
def test_what_changes_the_whole_rendering_comes_before_all_messages(
    api: Api, setting: Json
) -> None:
    message = {"role": "user", "content": "hello"}
    name = "input" if api is Api.RESPONSES else "messages"
    plain = canonical(api, {name: [message]})
    changed = canonical(api, {name: [message]} | setting)

    assert changed.endswith(plain)
    assert changed != plain


def test_settings_come_in_the_order_of_their_names() -> None:
    # In that of a set it would differ from process to process.
    names = ["truncation_side", "documents", "reasoning_effort", "chat_template", "reasoning"]

    settings = canonical(Api.CHAT, dict.fromkeys(names, 1)).split(b"\xffs")

    assert settings == [b"", *(f"{name}".encode() + b"\xff=1" for name in sorted(names))]


@pytest.mark.parametrize(
    "irrelevant",
    [
        {"temperature": 0.5, "max_tokens": 7, "stream": True, "stop": ["a"], "tool_choice": "auto"},
        {"chat_template": None, "tools": None, "tools_": [1]},
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
    ],
)
def test_what_is_not_rendered_does_not_count(irrelevant: Json) -> None:
    chat = {"messages": [{"role": "user", "content": "hello"}]}

    assert canonical(Api.MESSAGES, chat | irrelevant) == canonical(Api.MESSAGES, chat)


@given(text=texts, more=texts)
def test_a_text_to_complete_is_the_beginning_of_a_longer_one(text: str, more: str) -> None:
    longer = canonical(Api.COMPLETIONS, {"prompt": text + more})

    assert longer.startswith(canonical(Api.COMPLETIONS, {"prompt": text}))


@given(ids=st.lists(st.integers(0, 200_000), min_size=1), more=st.lists(st.integers(0, 200_000)))
def test_token_ids_are_the_beginning_of_more_of_them(ids: list[int], more: list[int]) -> None:
    longer = canonical(Api.COMPLETIONS, {"prompt": ids + more})

    assert longer.startswith(canonical(Api.COMPLETIONS, {"prompt": ids}))


prompts = texts | st.lists(st.integers(-1, 200_000), min_size=1, max_size=3)


@given(one=st.lists(prompts, min_size=1, max_size=3), other=st.lists(prompts, min_size=1))
def test_several_prompts_differ_from_all_others(one: list[Any], other: list[Any]) -> None:
    one_bytes = canonical(Api.COMPLETIONS, {"prompt": one})

    assert (one_bytes == canonical(Api.COMPLETIONS, {"prompt": other})) == (one == other)
    if len(one) == 1:
        assert one_bytes == canonical(Api.COMPLETIONS, {"prompt": one[0]})


def test_token_ids_are_read_whatever_the_white_space() -> None:
    spaced = decode_fields(b'{"prompt": [ 1,\n\t2 , 33 ]}')

    assert canonical_bytes(Api.COMPLETIONS, spaced) == canonical(
        Api.COMPLETIONS, {"prompt": [1, 2, 33]}
    )


def test_embeddings_of_a_prompt_count_by_their_digest() -> None:
    one, other = (
        canonical(Api.COMPLETIONS, {"prompt_embeds": "A" * length}) for length in (9, 9000)
    )

    assert len(one) == len(other)
    assert one != other


@given(api=st.sampled_from(Api), value=json_values, tools=json_values, prompt=json_values)
def test_no_shape_is_too_strange(api: Api, value: Any, tools: Any, prompt: Any) -> None:
    everywhere = {
        "messages": value,
        "input": value,
        "system": tools,
        "instructions": tools,
        "tools": tools,
        "prompt": prompt,
        "prompt_embeds": prompt,
        "thinking": tools,
        "reasoning": prompt,
    }

    assert canonical(api, everywhere) == canonical(api, everywhere)


@pytest.mark.parametrize(
    "message",
    [
        {"role": ["user"], "content": "a"},
        {"role": {}, "content": None},
        {"role": "user", "content": {"type": ["text"]}},
        {"role": "user", "content": [["a"], None, 7, {"type": {}}, {"type": "text", "text": 7}]},
        {"role": "user", "content": "a", "tool_calls": "b"},
        "user",
    ],
)
def test_a_strange_message_differs_from_none(message: Any) -> None:
    assert canonical(Api.CHAT, {"messages": [message]}) != canonical(Api.CHAT, {"messages": []})


@pytest.mark.parametrize(
    ("one", "other"), [([1, "a b"], [1, "ab"]), ([1, [2, 3]], [1, 2, 3]), ([1.5], [15])]
)
def test_strange_prompts_are_not_taken_for_token_ids(one: Any, other: Any) -> None:
    one_bytes = canonical(Api.COMPLETIONS, {"prompt": one})

    assert one_bytes != canonical(Api.COMPLETIONS, {"prompt": other})


def test_strange_roles_differ() -> None:
    one, other = ({"messages": [{"role": [role]}]} for role in ("user", "system"))

    assert canonical(Api.CHAT, one) != canonical(Api.CHAT, other)


def canonical(api: Api, body: Json) -> bytes:
    return canonical_bytes(api, decode_fields(msgspec.json.encode(body)))


def shuffle(value: Any, order: Any) -> Any:
    if isinstance(value, list):
        return [shuffle(one, order) for one in value]
    if isinstance(value, dict):
        names = list(value)
        order.shuffle(names)
        return {name: shuffle(value[name], order) for name in names}
    return value
