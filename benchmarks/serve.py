"""The application as `tallybook serve` runs it, one process: `python -m benchmarks.serve PORT`.

With --verify-every-token it remembers no token, to be compared with peers that do not either.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn

from tallybook import caller, logs
from tallybook.runtime import Runtime
from tallybook.server import Application
from tallybook.settings import Settings


def main(port: int, *, verify_every_token: bool) -> None:
    """Serve every function until told to stop."""
    if verify_every_token:
        caller.CACHED_TOKENS_MAX = 0  # type: ignore[misc]
    settings = Settings.from_environment()
    logs.configure(level=settings.log_level)
    application = Application(Runtime.from_settings(settings), Path(__file__).parent.parent)
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), verify_every_token="--verify-every-token" in sys.argv)
