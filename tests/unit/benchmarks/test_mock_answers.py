import json

from benchmarks.mock_answers import EVENT_BYTES, completion, event_frame, usage_frame


def read_frame(frame: bytes) -> bytes:
    size, _, rest = frame.partition(b"\r\n")
    data = rest.removesuffix(b"\r\n")
    assert len(data) == int(size, 16)
    return data


def test_an_event_is_json_of_the_stated_size() -> None:
    for reason in (b"null", b'"stop"'):
        data = read_frame(event_frame(reason))
        event = json.loads(data.removeprefix(b"data: "))

        assert len(data) == EVENT_BYTES
        assert data.endswith(b"\n\n")
        assert event["choices"][0]["delta"]["content"]
        assert event["choices"][0]["finish_reason"] == json.loads(reason)


def test_a_completion_has_the_stated_length_and_the_usage() -> None:
    head, _, body = completion(77, gives_blocks=False).partition(b"\r\n\r\n")
    answer = json.loads(body)

    assert f"content-length: {len(body)}".encode() in head
    assert answer["usage"]["prompt_tokens"] == 77
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert answer["kv_transfer_params"] is None


def test_each_leg_1_leaves_blocks_of_its_own() -> None:
    params = [
        json.loads(completion(1, gives_blocks=True).partition(b"\r\n\r\n")[2])["kv_transfer_params"]
        for _ in range(2)
    ]

    assert params[0]["do_remote_prefill"] is True
    assert params[0]["remote_request_id"] != params[1]["remote_request_id"]


def test_usage_comes_without_choices() -> None:
    event = json.loads(read_frame(usage_frame(9)).removeprefix(b"data: "))

    assert event["choices"] == []
    assert event["usage"]["prompt_tokens"] == 9
