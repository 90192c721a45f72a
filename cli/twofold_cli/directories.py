"""Where state and converted models are kept, by the XDG base directory specification."""

from collections.abc import Mapping
from pathlib import Path


def state_directory(environ: Mapping[str, str]) -> Path:
    """Return ``$TWOFOLD_STATE_DIR``, else ``twofold`` in the user's state directory."""
    own = environ.get("TWOFOLD_STATE_DIR")
    if own:
        return Path(own).absolute()
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "twofold"


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Return ``twofold`` in ``$TWOFOLD_CACHE_DIR``, else in the user's cache directory."""
    own = environ.get("TWOFOLD_CACHE_DIR")
    if own:
        return Path(own).absolute() / "twofold"
    return _xdg(environ, "XDG_CACHE_HOME", ".cache") / "twofold"


def _xdg(environ: Mapping[str, str], name: str, below_home: str) -> Path:
    # The specification has relative paths ignored.
    given = Path(environ.get(name, ""))
    return given if given.is_absolute() else Path.home() / below_home
