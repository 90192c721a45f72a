"""LoRA adapters that come and go while the engine runs, by vLLM's own API.

There are no weights: any source will do, unless it has "missing" in it.
"""

import msgspec

from twofold_sim.live.engine import SimEngine
from twofold_sim.live.errors import BadRequestError, UnknownModelError

LOAD_PATH = "/v1/load_lora_adapter"
UNLOAD_PATH = "/v1/unload_lora_adapter"


class _Load(msgspec.Struct):
    lora_name: str
    lora_path: str


class _Unload(msgspec.Struct):
    lora_name: str


_decode_load = msgspec.json.Decoder(_Load).decode
_decode_unload = msgspec.json.Decoder(_Unload).decode


def load_adapter(engine: SimEngine, body: bytes) -> str:
    """Serve an adapter from now on; return what vLLM says then.

    Raises:
        BadRequestError: it has no name or no source, or is loaded already.
        UnknownModelError: there is nothing at its source.
    """
    try:
        order = _decode_load(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(str(error)) from error
    name, source = order.lora_name, order.lora_path
    if not name or not source:
        raise BadRequestError("Both 'lora_name' and 'lora_path' must be provided.")
    if name in engine.adapters:
        raise BadRequestError(f"The lora adapter '{name}' has already been loaded.")
    if "missing" in source:
        raise UnknownModelError(f"Loading lora {name} failed: No adapter found for {source}")
    engine.adapters[name] = source
    engine.on_change()
    return f"Success: LoRA adapter '{name}' added successfully."


def unload_adapter(engine: SimEngine, body: bytes) -> str:
    """No longer serve an adapter; return what vLLM says then.

    Raises:
        BadRequestError: it has no name.
        UnknownModelError: it is not loaded.
    """
    try:
        name = _decode_unload(body).lora_name
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(str(error)) from error
    if name not in engine.adapters:
        raise UnknownModelError(f"The lora adapter '{name}' cannot be found.")
    del engine.adapters[name]
    engine.on_change()
    return f"Success: LoRA adapter '{name}' removed successfully."
