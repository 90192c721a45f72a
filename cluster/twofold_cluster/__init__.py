"""What all components agree on: who a worker is, where it is, and what crosses the wire.

Imports nothing else of ours, and nothing heavy: it is in every image.
"""
