"""The HTTP gateway, and the placement of requests on workers."""
