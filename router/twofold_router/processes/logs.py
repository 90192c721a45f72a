"""Which process a line of the log is from."""

import logging


def log_as_gateway(process: int) -> None:
    """Put the number of this gateway process into all that it logs from now on."""

    def add_number(record: logging.LogRecord) -> bool:
        record.gateway = process
        return True

    # Not ``process``, which has a meaning of its own in a record, and one that is not written out.
    for handler in logging.getLogger().handlers:
        handler.addFilter(add_number)
