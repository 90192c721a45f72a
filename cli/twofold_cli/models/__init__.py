"""From what a user calls a model to what vLLM loads."""
