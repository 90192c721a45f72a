"""The engine that generates."""
