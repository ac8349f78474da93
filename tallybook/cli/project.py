"""Where things lie: the project's root, and the folder in which the local stack keeps its data."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """The folder that holds `functions/`: the current one or one above it, else our own checkout.

    A console script has no project of its own, so it looks from where it was called.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "functions").is_dir() and (folder / "sql").is_dir():
            return folder
    return Path(__file__).resolve().parents[2]


def local_folder() -> Path:
    """`.tallybook` in the project's root, or what TALLYBOOK_FOLDER names."""
    chosen = os.environ.get("TALLYBOOK_FOLDER")
    return Path(chosen).resolve() if chosen else root() / ".tallybook"


def data_folder() -> Path:
    """The local Postgres' data directory."""
    return local_folder() / "postgres"
