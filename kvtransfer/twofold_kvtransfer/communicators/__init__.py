"""Libraries that send and receive between two processes, for the two-sided transport.

**gloo** moves blocks in host memory. It is there so that the transport's protocol is tested where
there is no GPU, and for CPUs; tcp is quicker for that.

**nccl** moves blocks in GPU memory, between two GPUs: NCCL refuses two ranks on one. All of it but
the few calls of NCCL and CUDA, in the modules here, is the code that runs over gloo too. Those
calls have been tested with doubles only: **nothing here has yet run on NCCL**.

Each is imported only when it is chosen.
"""
