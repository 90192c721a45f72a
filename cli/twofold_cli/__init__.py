"""The command ``twofold``."""
