"""Profiles by their name, or from a file."""

from importlib.resources import files
from pathlib import Path

import msgspec

from twofold_sim.profiles.profile import Profile


class ProfileError(Exception):
    """There is no such profile, or it is none that an engine can have."""


def load_profile(name_or_path: str) -> Profile:
    """Return a built-in profile by its name, or the one in a JSON file.

    Raises:
        ProfileError: neither is there, or the file holds no profile.
    """
    built_in = {profile.name: profile for profile in load_built_in_profiles()}
    if name_or_path in built_in:
        return built_in[name_or_path]
    path = Path(name_or_path)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Profile)
    except OSError as error:
        known = ", ".join(sorted(built_in))
        raise ProfileError(
            f"{name_or_path!r} is no built-in profile ({known}), and as a file: {error.strerror}"
        ) from error
    except msgspec.DecodeError as error:
        raise ProfileError(f"{path}: {error}") from error


def save_profile(profile: Profile, path: Path) -> None:
    """Write *profile* so that ``load_profile`` finds it."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")


def load_built_in_profiles() -> list[Profile]:
    """Return the profiles of ``data/``, each of whose files is a list of them."""
    return [
        profile
        for file in sorted(files(__package__).joinpath("data").iterdir(), key=lambda f: f.name)
        for profile in msgspec.json.decode(file.read_bytes(), type=list[Profile])
    ]
