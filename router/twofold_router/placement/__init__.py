"""Which workers serve a request. Pure: the clock is an argument, and nothing here does I/O."""
