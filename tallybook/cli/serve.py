"""`tallybook serve`: the functions, in production."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
import uvicorn

from tallybook import logs
from tallybook.attestation.configured import examiner_of
from tallybook.cli import project
from tallybook.cli.connection import UNUSABLE, fail
from tallybook.host import OPTIONS, Host
from tallybook.http import Receive, Scope, Send
from tallybook.runtime import Runtime
from tallybook.server import Application
from tallybook.settings import ConfigurationError, Settings

ROOT_VARIABLE: Final = "TALLYBOOK_ROOT"
SIGNERS: Final = "SUPABASE_JWKS|SUPABASE_JWKS_URL|SUPABASE_JWT_SECRET|SUPABASE_URL"


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="PORT", min=0, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    root: Annotated[
        Path | None,
        typer.Option(help="The folder that holds functions/; else where you are.", exists=True),
    ] = None,
) -> None:
    """Serve every function. SIGTERM stops it once everything under way is answered.

    Configured by the environment alone; refuses to start (exit code 2) when something is missing.
    """
    os.environ[ROOT_VARIABLE] = str(root or project.root())
    try:
        settings = serving_settings()
        listener = socket.create_server((host, port), backlog=OPTIONS["backlog"])
    except ConfigurationError as error:
        fail(str(error), UNUSABLE)
    except OSError as error:
        fail(f"Cannot listen on {host}, port {port}: {error.strerror}.", UNUSABLE)
    logs.configure(level=settings.log_level)
    logs.log("serve.started", host=host, port=port, workers=workers)
    if workers > 1:
        # Who is started anew binds anew; whether the port is free was seen just now.
        listener.close()
        options = {**OPTIONS, "factory": True, "host": host, "port": port}
        uvicorn.run("tallybook.cli.serve:application", workers=workers, **options)
    else:
        Host(uvicorn.Config(application, factory=True, **OPTIONS)).run([listener])
    logs.log("serve.stopped")


def serving_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """The environment's settings, with everything a server needs. Raises ConfigurationError.

    What becomes of them is made once and thrown away: some values are read only when they are used.
    """
    settings = Settings.from_environment(environ)
    needed = ["COUPON_SECRET", SIGNERS]
    if settings.transport == "psycopg":
        needed.append("DATABASE_URL")
    settings.require(*needed)
    examiner_of(settings)
    return settings


def application() -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """What each process serves; made in it, so that nothing is shared across a fork."""
    settings = serving_settings()
    logs.configure(level=settings.log_level)
    served = Application(Runtime.from_settings(settings), Path(os.environ[ROOT_VARIABLE]))

    async def serve_and_flush(scope: Scope, receive: Receive, send: Send) -> None:
        await served(scope, receive, send)
        if scope["type"] == "lifespan":
            # One of several processes is ended by a signal, which lets nothing be flushed later.
            logs.flush()

    return serve_and_flush
