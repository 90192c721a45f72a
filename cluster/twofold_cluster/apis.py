"""The paths of the engine's HTTP API, by what a request of each needs."""

import enum


class Api(enum.StrEnum):
    """Has a prompt to place, computed in one leg or in two; each answers with its tokens."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    RESPONSES = "/v1/responses"
    MESSAGES = "/v1/messages"
    """Anthropic's. vLLM 0.32 makes a chat of it and back, ``kv_transfer_params`` included."""


class PassedOnApi(enum.StrEnum):
    """Leaves no KV cache behind: any worker will do, and the request goes to it as it came."""

    EMBEDDINGS = "/v1/embeddings"
    TOKENIZE = "/tokenize"
    DETOKENIZE = "/detokenize"
    COUNT_TOKENS = "/v1/messages/count_tokens"
    """Anthropic's."""
