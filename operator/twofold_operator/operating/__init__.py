"""The operator's process: watches, the queue, the loop, the Lease and what it tells of itself."""
