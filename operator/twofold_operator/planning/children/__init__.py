"""The objects that a service consists of, one module for each sort."""
