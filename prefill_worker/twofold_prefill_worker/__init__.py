"""The engine that computes prompts; it refuses at once when it is busy."""
