"""Locations of the client's settings and data."""

import os
from pathlib import Path

import platformdirs

__all__ = ["config_dir", "data_dir", "local_server_dir", "settings_file"]


def config_dir() -> Path:
    """Return the folder of the settings: `PREP_CONFIG_DIR`, or the platform's default."""
    override = os.environ.get("PREP_CONFIG_DIR")
    return Path(override) if override else platformdirs.user_config_path("prep")


def data_dir() -> Path:
    """Return the data directory: `PREP_DATA_DIR`, or the platform's default."""
    override = os.environ.get("PREP_DATA_DIR")
    return Path(override) if override else platformdirs.user_data_path("prep")


def settings_file() -> Path:
    """Return the path of the file that lists the servers that the user is logged in to."""
    return config_dir() / "config.toml"


def local_server_dir() -> Path:
    """Return the local server's data directory, which holds the interviews on this machine."""
    return data_dir() / "private"
