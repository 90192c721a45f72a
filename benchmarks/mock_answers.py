"""What a mock engine says, framed as vLLM frames it, and made before it is asked for."""

from itertools import count

MODEL = "mock-model"
EVENT_BYTES = 200

JSON_TYPE = b"application/json"

DONE_FRAME = b"e\r\ndata: [DONE]\n\n\r\n"
LAST_FRAME = b"0\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)

_serial = count()

_ID = b'"id":"chatcmpl-8a1f0c5e9b7d4e62","created":1767225600,"model":"%s"' % MODEL.encode()


def response(body: bytes, status: bytes = b"200 OK", content_type: bytes = JSON_TYPE) -> bytes:
    """Frame a whole answer with its length."""
    return b"HTTP/1.1 %s\r\nserver: uvicorn\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (
        status,
        content_type,
        len(body),
        body,
    )


def models() -> bytes:
    return response(
        b'{"object":"list","data":[{"id":"%s","object":"model","owned_by":"vllm",'
        b'"max_model_len":131072}]}' % MODEL.encode()
    )


def metrics(running: int) -> bytes:
    label = b'{engine="0",model_name="%s"}' % MODEL.encode()
    text = (
        b"vllm:num_requests_running%s %d\nvllm:num_requests_waiting%s 0\n"
        b"vllm:kv_cache_usage_perc%s 0\n"
        b'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="65536"} 1\n'
    ) % (label, running, label, label)
    return response(text, content_type=b"text/plain; version=0.0.4; charset=utf-8")


def busy() -> bytes:
    """Refuse as a prefill worker does that has enough to do."""
    body = (
        b'{"error":{"message":"busy","type":"rate_limit_error","param":null,"code":"prefill_busy"}}'
    )
    return response(body, b"429 Too Many Requests\r\nretry-after: 1")


def completion(prompt_tokens: int, *, gives_blocks: bool) -> bytes:
    """Answer without a stream; with transfer parameters as NixlConnector leaves them, if asked."""
    return response(
        b'{%s,"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",'
        b'"content":"All is well.","tool_calls":[]},"logprobs":null,"finish_reason":"stop",'
        b'"stop_reason":null}],%s,"kv_transfer_params":%s}'
        % (_ID, _usage(prompt_tokens), _transfer_params() if gives_blocks else b"null")
    )


def event_frame(finish_reason: bytes = b"null") -> bytes:
    """One token as an event of EVENT_BYTES, in an HTTP chunk of its own."""
    start = b'data: {%s,"object":"chat.completion.chunk","choices":[{"index":0,' % _ID
    start += b'"delta":{"content":"'
    end = b'"},"finish_reason":%s}]}\n\n' % finish_reason
    return _frame(start + b"o" * (EVENT_BYTES - len(start) - len(end)) + end)


def usage_frame(prompt_tokens: int) -> bytes:
    """The event that ``stream_options.include_usage`` asks for."""
    return _frame(
        b'data: {%s,"object":"chat.completion.chunk","choices":[],%s}\n\n'
        % (_ID, _usage(prompt_tokens))
    )


def _frame(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _usage(prompt_tokens: int) -> bytes:
    return (
        b'"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":1,'
        b'"prompt_tokens_details":{"cached_tokens":0}}' % (prompt_tokens, prompt_tokens + 1)
    )


def _transfer_params() -> bytes:
    return (
        b'{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[1,2,3,4]],'
        b'"remote_engine_id":"mock-engine","remote_request_id":"mock-%d",'
        b'"remote_host":"127.0.0.1","remote_port":5600,"tp_size":1}' % next(_serial)
    )
