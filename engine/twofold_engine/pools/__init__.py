"""The pools of one service: what is wanted, what is there, and what to do about it."""
