"""What the transports share that agree with their peers over TCP connections.

``tcp`` moves the blocks over the same connections, ``two_sided`` beside them.
"""
