"""An engine without a model that speaks HTTP as vLLM 0.32 does, as far as a router uses it."""
