"""gRPC services and their generated stubs; ``scripts/generate`` makes the stubs anew."""
