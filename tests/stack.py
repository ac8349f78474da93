"""The whole stack around one database: our server under uvicorn, the gateway, a real PostgREST."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import uvicorn

from tallybook.attestation.examiner import Examiner
from tallybook.local import postgrest
from tallybook.local.gateway import Gateway
from tallybook.local.signing import LocalKeys
from tallybook.runtime import Runtime
from tallybook.schema import ROOT
from tallybook.server import Application
from tallybook.settings import Settings
from tests.conftest import Database


@dataclass(frozen=True)
class Stack:
    """What a client needs to know of a running stack."""

    url: str
    keys: LocalKeys
    environment: dict[str, str]
    postgrest: postgrest.LocalPostgrest | None


@contextmanager
def running(
    database: Database,
    folder: Path,
    *,
    with_postgrest: bool = True,
    examiner: Examiner | None = None,
    **more: str,
) -> Iterator[Stack]:
    """Serve `database` until the block ends; logs and keys go to `folder`.

    `examiner` stands in for the one that the environment describes, `more` adds to that.
    """
    keys = LocalKeys.load_or_create(folder)
    with ExitStack() as things:
        rest = None
        if with_postgrest:
            program = postgrest.find()
            assert program is not None, "npm ci --ignore-scripts"
            rest = things.enter_context(
                postgrest.LocalPostgrest(
                    program, database.dsn("authenticator"), keys.jwks, folder / "postgrest.log"
                )
            )
        listener = things.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        environment = {
            "DATABASE_URL": database.dsn("tallybook_functions"),
            "SUPABASE_URL": url,
            "SUPABASE_JWKS": msgspec.json.encode(keys.jwks).decode(),
            "SUPABASE_PUBLISHABLE_KEY": keys.publishable_key,
            "SUPABASE_SECRET_KEY": keys.secret_key,
            "COUPON_SECRET": keys.coupon_secret,
            "TALLYBOOK_CORS_ORIGINS": "https://app.example.com",
            **more,
        }
        runtime = Runtime.from_settings(Settings.from_environment(environment))
        if examiner is not None:
            runtime = replace(runtime, examiner=examiner)
        gateway = Gateway(Application(runtime, ROOT), keys, rest.url if rest else None)
        things.enter_context(_serving(gateway, listener))
        yield Stack(url, keys, environment, rest)


@contextmanager
def _serving(gateway: Gateway, listener: socket.socket) -> Iterator[None]:
    config = uvicorn.Config(gateway, lifespan="on", ws="none", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
