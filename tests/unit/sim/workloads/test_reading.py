"""Traces from files."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from twofold_sim.workloads import Prompt, WorkloadError, hit_rate_ceiling, read_trace

TRACES = Path(__file__).resolve().parents[5] / "shared" / "traces"

MOONCAKE = (
    '{"timestamp": 3000, "input_length": 600, "output_length": 9, "hash_ids": [0, 7]}\n'
    "\n"
    '{"timestamp": 1500, "input_length": 512, "output_length": 0, "hash_ids": [0]}\n'
)
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:59.9805900,374,44\n"
    "2023-11-16 18:16:00.1805901,1025,109\n"
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,ChatGPT,1087,0,1087,Conversation log\n"
    "118,GPT-4,417,276,693,API log\n"
)


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("trace.jsonl", content)
    return file.getvalue()


def written(folder: Path, text: str) -> Path:
    path = folder / "trace"
    path.write_text(text)
    return path


def error(folder: Path, text: str) -> str:
    with pytest.raises(WorkloadError) as caught:
        read_trace(written(folder, text))
    return str(caught.value)


def test_a_trace_of_mooncakes_form_is_read_in_order_from_zero(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, MOONCAKE)) == [
        Prompt(at=0.0, prompt_tokens=512, output_tokens=1, block_ids=(0,)),
        Prompt(at=1.5, prompt_tokens=600, output_tokens=9, block_ids=(0, 7)),
    ]


def test_azures_times_keep_their_tenth_of_a_microsecond(tmp_path: Path) -> None:
    first, second = read_trace(written(tmp_path, AZURE))

    assert first.at == 0.0
    assert second.at == pytest.approx(0.2000001, abs=3e-7)
    assert (second.prompt_tokens, second.output_tokens) == (1025, 109)


def test_azures_later_times_have_a_zone(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 02:00:00.009930+02:00,2162,5\n"
        "2024-05-10 00:00:01+00:00,2399,6\n"
    )

    assert read_trace(written(tmp_path, text))[1].at == pytest.approx(0.99007, abs=1e-6)


def test_prompts_without_prefix_information_share_nothing(tmp_path: Path) -> None:
    first, second = read_trace(written(tmp_path, AZURE))

    assert (len(first.block_ids), len(second.block_ids)) == (1, 3)
    assert not set(first.block_ids) & set(second.block_ids)


def test_requests_that_failed_are_left_out_of_burstgpts(tmp_path: Path) -> None:
    found = read_trace(written(tmp_path, BURSTGPT))

    assert [(prompt.at, prompt.prompt_tokens, prompt.output_tokens) for prompt in found] == [
        (0.0, 472, 18),
        (113.0, 417, 276),
    ]


def test_columns_that_a_later_release_adds_do_not_matter(tmp_path: Path) -> None:
    text = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens\n"
        "7,abc,1.5,GPT-4,472.0,18.0,490.0\n"
    )

    assert read_trace(written(tmp_path, text))[0].prompt_tokens == 472


@pytest.mark.parametrize("text", [MOONCAKE, AZURE, BURSTGPT])
def test_empty_lines_before_the_first_do_not_matter(text: str, tmp_path: Path) -> None:
    expected = read_trace(written(tmp_path, text))

    assert read_trace(written(tmp_path, f"\n \r\n{text}")) == expected


def test_lines_are_counted_with_those_that_are_empty(tmp_path: Path) -> None:
    assert "line 6: Invalid isoformat" in error(tmp_path, f"\n\n{AZURE}yesterday,5,5\n")


@pytest.mark.parametrize(
    "header",
    [
        "Timestamp ,Model, Request tokens ,Response tokens",
        '"Timestamp",Model,"Request tokens", "Response tokens"',
    ],
)
def test_a_header_may_have_spaces_and_quotes(header: str, tmp_path: Path) -> None:
    (found,) = read_trace(written(tmp_path, f"{header}\n7,GPT-4,472,18\n"))

    assert (found.prompt_tokens, found.output_tokens) == (472, 18)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (MOONCAKE + "{oops}", "line 4"),
        (MOONCAKE + '{"timestamp": 1, "input_length": 5, "output_length": 1}', "hash_ids"),
        (MOONCAKE.replace("600", "1025"), "line 1: 1025 tokens are 3 blocks"),
        (MOONCAKE.replace("512,", "-512,"), "line 3"),
        (AZURE + "yesterday,5,5\n", "line 4: Invalid isoformat"),
        (AZURE + "2023-11-16 18:16:01,many,5\n", "line 4: could not convert"),
        (AZURE + "2023-11-16 18:16:01,5.5,5\n", "line 4: ContextTokens must be a whole number"),
        (AZURE + "2023-11-16 18:16:01,5\n", "line 4: GeneratedTokens is missing"),
        (AZURE + "2023-11-16 18:16:01,10000001,5\n", "line 4: ContextTokens must be at most"),
        (AZURE + "2023-11-16 18:16:01,5,1e12\n", "must be at most 10,000,000 tokens, not '1e12'"),
        (BURSTGPT + "9,GPT-4,1e12,276,693,API log\n", "line 5: Request tokens must be at most"),
        (BURSTGPT + "soon,GPT-4,417,276,693,API log\n", "line 5"),
        (BURSTGPT + 'x,"open\n', "line 5"),
        (BURSTGPT + "nan,GPT-4,417,276,693,API log\n", "line 5: Timestamp must be a time"),
        (BURSTGPT + "inf,GPT-4,417,276,693,API log\n", "line 5: Timestamp must be a time"),
        (MOONCAKE.replace("[0]", f"[{2**128}]"), "line 3: an id of hash_ids has more than 16"),
        ("\n\na,b,c\n", "line 3: neither a JSON object"),
        ('"a,b\n', "line 1: neither a JSON object"),
        ("a,b,c\n1,2,3\n", "neither a JSON object nor a header with TIMESTAMP"),
        ("", "line 1: neither"),
        (AZURE.splitlines()[0], "there is no request in it"),
    ],
)
def test_an_error_names_the_file_and_the_line(text: str, complaint: str, tmp_path: Path) -> None:
    message = error(tmp_path, text)

    assert message.startswith(str(tmp_path / "trace"))
    assert complaint in message


def test_a_file_that_is_missing_or_no_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="No such file"):
        read_trace(tmp_path / "nothing")
    path = tmp_path / "binary"
    path.write_bytes(b"{\xff\xfe")
    with pytest.raises(WorkloadError, match="binary"):
        read_trace(path)


@pytest.mark.skipif(not TRACES.is_dir(), reason="shared/traces is not beside the checkout")
def test_the_public_traces_are_what_they_are_said_to_be() -> None:
    conversation = read_trace(TRACES / "mooncake_conversation.jsonl")
    azure = read_trace(TRACES / "azure_2023_conv.csv")

    assert len(conversation) == 12_031
    assert sum(prompt.prompt_tokens for prompt in conversation) // 12_031 == 12_035
    assert hit_rate_ceiling(conversation) == pytest.approx(0.37, abs=0.01)
    assert len(azure) == 19_366
    assert hit_rate_ceiling(azure) == 0.0


@pytest.mark.parametrize(
    ("pack", "name"),
    [
        (gzip.compress, "gzip"),
        (bz2.compress, "bzip2"),
        (lzma.compress, "xz"),
        (zipped, "zip"),
        (lambda content: b"\x28\xb5\x2f\xfd" + content, "zstd"),
    ],
)
def test_a_packed_trace_is_said_to_be_packed(
    tmp_path: Path, pack: Callable[[bytes], bytes], name: str
) -> None:
    path = tmp_path / "trace.jsonl.packed"
    path.write_bytes(pack(MOONCAKE.encode()))

    with pytest.raises(WorkloadError, match=f"packed: it is packed with {name}; unpack it first"):
        read_trace(path)


def test_what_is_neither_text_nor_packed_is_said_to_be_no_text(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b'{"timestamp": "\xff"}')

    with pytest.raises(WorkloadError, match="can't decode byte 0xff"):
        read_trace(path)
