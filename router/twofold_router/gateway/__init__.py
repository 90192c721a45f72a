"""HTTP in, HTTP to the workers, and the life of a request between them."""
