"""What one worker has in its prefix cache, and what it is to have there: looked up, pulled ahead of
need, pinned; and how it is emptied. Served over gRPC (``Prefixes`` of ``twofold.kvtransfer.v1``).
"""
