"""One vLLM engine as a supervised Ray actor, and pools of them."""
