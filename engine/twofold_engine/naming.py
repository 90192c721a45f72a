"""A prompt's blocks under the names that vLLM's own prefix cache gives them.

All here is vLLM's: its templates and tokenizer, its request and its hash. Imports vLLM, as
``serving`` does.
"""

from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.exceptions import VLLMNotFoundError, VLLMValidationError
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import (
    get_request_block_hasher,
    init_none_hash,
    maybe_convert_block_hash,
)
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.request import Request

from twofold_engine.chains import Chain

INTEGER_BYTES = 8
"""Of the integers that vLLM makes of hashes for its events."""


class Naming:
    """Names blocks like the engine process of *engine*, whose environment must be ours."""

    def __init__(self, engine: AsyncLLM, tasks: Any, state: Any) -> None:
        """*tasks*: what the engine can do; *state*: that of vLLM's API server."""
        config: VllmConfig = engine.vllm_config
        self._engine = engine
        self._tasks = tasks
        self._renderer = state.online_renderer
        self._models = state.openai_serving_models
        # As resolve_kv_cache_block_sizes has it where all layers are of one kind. The directory
        # has no others.
        self._block_tokens = (
            config.cache_config.block_size * config.parallel_config.decode_context_parallel_size
        )
        hash_function = get_hash_fn_by_name(config.cache_config.prefix_caching_hash_algo)
        init_none_hash(hash_function)
        self._hasher = get_request_block_hasher(self._block_tokens, hash_function)

    async def name(self, body: Mapping[str, Any]) -> Chain:
        """Name the blocks of the only prompt in *body*, a request for completions or for a chat.

        Raises:
            RequestValidationError, VLLMError, ValueError: vLLM would not take it either; its own
                handlers answer for them.
        """
        asked = _parsed(body)
        adapter = self._adapter(asked.model)
        processed = self._engine.input_processor.process_inputs(
            "chain",
            await self._rendered(asked),
            SamplingParams(max_tokens=1),
            self._tasks,
            lora_request=adapter,
        )
        request = Request.from_engine_core_request(processed, self._hasher)
        names = map(maybe_convert_block_hash, request.block_hashes)
        return Chain(request.num_tokens, self._block_tokens, tuple(map(_as_text, names)))

    def _adapter(self, model: str | None) -> Any:
        """Return the adapter that is asked for; None: the model itself.

        Raises:
            VLLMNotFoundError: the engine has neither.
        """
        if not model or self._models.is_base_model(model):
            return None
        if (adapter := self._models.lora_requests.get(model)) is None:
            raise VLLMNotFoundError(f"The model `{model}` does not exist.")
        return adapter

    async def _rendered(self, asked: ChatCompletionRequest | CompletionRequest) -> Any:
        """Return the prompt as the engine takes it, from a chat or as it stands."""
        # Without the cache for images, whose other half in the engine process would not hear.
        if isinstance(asked, ChatCompletionRequest):
            rendered = await self._renderer.render_chat(asked, skip_mm_cache=True)
        else:
            rendered = await self._renderer.render_completion(asked, skip_mm_cache=True)
        if isinstance(rendered, ErrorResponse):
            raise VLLMValidationError(rendered.error.message)
        prompts = rendered[1] if isinstance(asked, ChatCompletionRequest) else rendered
        if len(prompts) != 1:
            raise VLLMValidationError(f"one prompt is named at a time, not {len(prompts)}")
        return prompts[0]


def _parsed(body: Mapping[str, Any]) -> ChatCompletionRequest | CompletionRequest:
    try:
        kind = ChatCompletionRequest if "messages" in body else CompletionRequest
        return kind.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _as_text(name: int | bytes) -> str:
    return (name.to_bytes(INTEGER_BYTES, "big") if isinstance(name, int) else name).hex()
