"""A server process that does not outlive its owner, whatever the owner dies of.

A shell holds one end of a pipe and the owner the other. When the owner is gone the pipe closes,
and the shell ends the server. (Linux can signal a child when its parent dies, but there it is
the parent's thread that counts.)
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

# Fast shutdown, immediate shutdown, by force; and the seconds that each may take.
STEPS = ((signal.SIGINT, 30), (signal.SIGQUIT, 5), (signal.SIGKILL, 5))

# The shell says its process id to the watcher and then becomes the server, so that there is no
# moment at which the server runs unwatched.
ANNOUNCED = 'echo $$; exec "$@" >&2'

# Reads the process id, then a line once the server is ready, then nothing until the owner is
# gone. A ready server is recognised by its pid file: the id may be another process's by then.
WATCHER = """
read pid; read ready; read gone
finish() {
    [ -z "$ready" ] || [ "$(head -n 1 "$0" 2>/dev/null)" = "$pid" ] || exit 0
    kill -s "$1" "$pid" 2>/dev/null || exit 0
    seconds=$2
    while [ "$seconds" -gt 0 ] && kill -0 "$pid" 2>/dev/null; do
        sleep 1; seconds=$((seconds - 1))
    done
}
[ -n "$pid" ] || exit 0
finish INT 30; finish QUIT 5; finish KILL 0
"""


class Watched:
    """A running server and its watcher.

    `pid_file` is the file whose first line is the server's process id while it is ready;
    `options` go to subprocess for both.
    """

    def __init__(
        self, command: Sequence[str], pid_file: Path, log: IO[bytes], options: dict[str, Any]
    ) -> None:
        reading, writing = os.pipe()
        self._pipe = os.fdopen(writing, "wb", buffering=0)
        # Sessions of their own: Ctrl-C in the terminal is for the owner, who then ends them.
        try:
            self._watcher = subprocess.Popen(
                ["/bin/sh", "-c", WATCHER, str(pid_file)],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                **options,
            )
        finally:
            os.close(reading)
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", ANNOUNCED, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=self._pipe,
                stderr=log,
                start_new_session=True,
                **options,
            )
        except BaseException:
            self._dismiss()
            raise

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._process.poll() is None

    def ready(self) -> None:
        """Tell the watcher that the pid file is written."""
        # A watcher that somebody killed is no reason to fail.
        with suppress(BrokenPipeError):
            self._pipe.write(b"ready\n")

    def end(self) -> None:
        """Ask the server to leave, ever more firmly; the watcher goes last."""
        for number, seconds in STEPS:
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
        self._dismiss()

    def _dismiss(self) -> None:
        self._watcher.kill()
        self._watcher.wait()
        self._pipe.close()
