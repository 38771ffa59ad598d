"""Where prep keeps things: one folder for settings, one for data."""

import os
from pathlib import Path

import platformdirs

__all__ = ["config_dir", "data_dir", "local_server_dir", "settings_file"]


def config_dir() -> Path:
    """Settings; `PREP_CONFIG_DIR` moves it."""
    named = os.environ.get("PREP_CONFIG_DIR")
    return Path(named) if named else platformdirs.user_config_path("prep")


def data_dir() -> Path:
    """What prep makes; `PREP_DATA_DIR` moves it."""
    named = os.environ.get("PREP_DATA_DIR")
    return Path(named) if named else platformdirs.user_data_path("prep")


def settings_file() -> Path:
    """The servers that somebody has logged in to."""
    return config_dir() / "config.toml"


def local_server_dir() -> Path:
    """The data of the server that prep starts for itself: interviews are found there again."""
    return data_dir() / "local-server"
