"""Folders of the server: the paths in settings, the default folders and the data directory."""

import os
from pathlib import Path

import platformdirs

from prepserver.errors import BadRequest
from prepserver.wire.error_codes import ErrorCode

__all__ = ["default_data_dir", "default_models_dir", "open_folder", "parse_path"]


def parse_path(text: str) -> Path:
    """Return the absolute path that a setting names, with `~` and `~USER` expanded.

    Raises ValueError if the text is not a usable path. Variables and quotation marks are not
    expanded: outside a shell they would become part of the name.
    """
    if text.startswith(("$", '"', "'")):
        raise ValueError(
            "a path in full: only a shell expands variables and removes quotation marks"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a path whose name is UTF-8: rename the file or folder") from None
    if not text or "\0" in text:
        raise ValueError("a path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError("a path in full: the home directory is not known") from None
    except OSError:
        raise ValueError("a path in full: the current directory was removed") from None


def default_data_dir() -> Path:
    """Return the default data directory. Raises BadRequest (code `bad_setting`) if the user has no
    home directory."""
    return _user_dir("--data-dir") / "server"


def default_models_dir() -> Path:
    """Return the directory of installed models: the value of `PREP_MODELS_DIR`, or by default
    `models` in the user's data directory for prep.

    Raises BadRequest (code `bad_setting`) if the value is not a path or the user has no home
    directory.
    """
    named = os.environ.get("PREP_MODELS_DIR", "").strip()
    if not named:
        return _user_dir("PREP_MODELS_DIR") / "models"
    try:
        return parse_path(named)
    except ValueError as error:
        raise _bad_setting(f"PREP_MODELS_DIR must be {error}; it is {named!r}.") from error


def open_folder(path: Path, name: str, option: str, *, mode: int = 0o777) -> Path:
    """Return `path`, creating the folder with the permissions `mode` if it is missing.

    Raises BadRequest (code `bad_setting`) if the folder cannot be created or is not writable; the
    message calls the folder `name`, and `option` chooses another.
    """
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        obstacle = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
        if obstacle.is_dir():
            reason = str(error.strerror)
        elif obstacle.is_symlink():
            reason = f"{obstacle} is a link to a missing folder"
        else:
            reason = f"{obstacle} is a file"
        raise _bad_setting(
            f"Cannot create {name} {path}: {reason}. Choose another with {option}."
        ) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise _bad_setting(
            f"{name[:1].upper()}{name[1:]} {path} is not writable. "
            f"Change its permissions or choose another with {option}."
        )
    return path


def _user_dir(option: str) -> Path:
    path = platformdirs.user_data_path("prep")
    if not path.is_absolute():  # `~`: the user has no home directory, as in some containers
        raise _bad_setting(
            f"The user's home directory is not known. Set HOME, or choose a directory with {option}"
            "."
        )
    return path


def _bad_setting(message: str) -> BadRequest:
    return BadRequest(message, code=ErrorCode.BAD_SETTING)
