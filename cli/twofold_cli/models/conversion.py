"""Convert a GGUF file to safetensors: ``python -m twofold_cli.models.conversion FILE DIRECTORY``.

A program of its own, because it loads torch.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def convert(file: Path, target: Path) -> None:
    """Write model and tokenizer of *file* to *target*, its weights as bfloat16."""
    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    # What is written is not quantized any more, and vLLM believes what stands there.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    _make_greedy(target / "generation_config.json")
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(target)


def _make_greedy(generation_config: Path) -> None:
    """Have requests that name no temperature answered greedily: a model this small and this
    coarsely quantized talks nonsense otherwise."""
    config = json.loads(generation_config.read_text())
    generation_config.write_text(json.dumps({**config, "temperature": 0.0}, indent=2))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
