"""Locations of the client's settings and data."""

import os
from pathlib import Path

import platformdirs

from prepcli.errors import SettingsError

__all__ = ["config_dir", "data_dir", "local_server_dir", "settings_file"]


def config_dir() -> Path:
    """Return the folder of the settings: `PREP_CONFIG_DIR`, or the platform's default. Raises
    SettingsError if the folder is not known."""
    return _folder("PREP_CONFIG_DIR", platformdirs.user_config_path("prep"))


def data_dir() -> Path:
    """Return the data directory: `PREP_DATA_DIR`, or the platform's default. Raises SettingsError
    if the directory is not known."""
    return _folder("PREP_DATA_DIR", platformdirs.user_data_path("prep"))


def _folder(variable: str, default: Path) -> Path:
    """Return the absolute path in an environment variable, with `~` expanded, or the default."""
    text = os.environ.get(variable, "").strip()
    path = Path(text) if text else default
    try:
        str(path).encode()
        if text.startswith(("$", '"', "'")):
            # It was not set by a shell, so it would become a folder with this name.
            raise ValueError("only a shell expands variables and removes quotation marks")
        expanded = path.expanduser()
        if text or expanded.is_absolute():
            return expanded.absolute()
        problem = f"The home directory is not known: {path} is not an absolute path"
    except UnicodeEncodeError:
        problem = f"The name of the folder {path} is not UTF-8"
    except RuntimeError:
        problem = f"The home directory is not known, so the folder {path} cannot be found"
    except (OSError, ValueError) as error:
        reason = "the current directory was removed" if isinstance(error, OSError) else error
        problem = f"{variable} is {text}, which is not a full path: {reason}"
    raise SettingsError(f"{problem}. Set {variable} to the absolute path of a folder.")


def settings_file() -> Path:
    """Return the path of the file that lists the servers that the user is logged in to."""
    return config_dir() / "config.toml"


def local_server_dir() -> Path:
    """Return the local server's data directory, which holds the interviews on this machine."""
    return data_dir() / "private"
