"""Convert a GGUF file to safetensors: ``python -m twofold_cli.models.conversion FILE DIRECTORY``.

A program of its own, because it loads torch.
"""

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
    # What the authors of SmolLM2 recommend, and a GGUF file does not hold. Without it a request
    # that names no temperature gets vLLM's 1.0, at which so small a model talks nonsense.
    model.generation_config.update(do_sample=True, temperature=0.2, top_p=0.9)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
