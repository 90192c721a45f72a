"""Where a worker is steered, beside its engine's own API."""

PREFIX = "/twofold/v1"
