"""How many files a process may have open: each connection is one."""

import logging
import resource

_log = logging.getLogger(__name__)


def raise_open_files(needed_count: int) -> None:
    """Raise the soft limit of open files to the hard one, for this process and those it starts;
    log a warning if fewer than *needed_count* are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says that the hard limit is infinite, and refuses that.
    wanted = max(soft, needed_count) if hard == resource.RLIM_INFINITY else hard
    if soft not in (resource.RLIM_INFINITY, wanted):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            _log.warning("the limit of open files stays as it is", extra={"error": repr(error)})
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed_count:
        extra = {"limit": soft, "needed": needed_count}
        _log.warning("fewer files may be open than all connections need", extra=extra)
