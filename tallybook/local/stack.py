"""Everything on one machine: Postgres, PostgREST where it is installed, the worker, the gateway."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

import msgspec
import uvicorn

from tallybook import logs, migrate
from tallybook.host import OPTIONS, Host
from tallybook.local import demo, fake_platforms, postgrest
from tallybook.local.binaries import Binaries
from tallybook.local.cluster import answering
from tallybook.local.fake_platforms import FakePlatforms
from tallybook.local.gateway import Gateway
from tallybook.local.postgres import DURABLE, FAST, EmbeddedPostgres, enable_logins
from tallybook.local.signing import ISSUER, LocalKeys
from tallybook.runtime import Runtime
from tallybook.server import Application
from tallybook.settings import Settings
from tallybook.worker import Worker

Say = Callable[[str], None]

HOST: Final = "127.0.0.1"
DATA: Final = "postgres"
KEPT: Final = (f"{DATA}.*", "keys.json", "postgrest.log", *fake_platforms.FILES)

PASSED: Final = (
    *("TALLYBOOK_LOG_LEVEL", "ENCRYPTION_KEY", "ENCRYPTION_KEYS_PREVIOUS"),
    "POINTS_ALLOCATION_ENABLED",
    *("CREDIT_SYSTEM_ENABLED", "CREDIT_CACHE_TTL", "CREDIT_CACHE_URL", "OPENROUTER_API_BASE_URL"),
)
"""What a developer may set for the local stack; everything else is the stack's own."""


class PortBusy(Exception):
    """Somebody listens on a port that the stack was to listen on."""

    def __init__(self, port: int) -> None:
        super().__init__(f"Port {port} is in use.")
        self.port = port


class InUse(Exception):
    """The local database runs, so it cannot be removed."""


@dataclass
class Stack:
    """The local stack, whose data and keys lie in `folder`; `root` is the project.

    As a context it brings everything up but the gateway, and takes down what it brought up; `serve`
    then runs gateway and worker. With `fast` Postgres keeps no promise across a power failure.
    `say` hears of each step. Raises PortBusy, MigrationRefused, RuntimeError and TimeoutError.
    """

    folder: Path
    root: Path
    port: int
    postgres_port: int
    fast: bool = False
    say: Say = lambda _: None
    postgrest_url: str | None = field(default=None, init=False)
    _held: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> Self:
        with ExitStack() as held:
            self._socket = held.enter_context(_listening(self.port))
            self.port = self._socket.getsockname()[1]
            self.folder.mkdir(parents=True, exist_ok=True)
            self.keys = LocalKeys.load_or_create(self.folder)
            self.platforms = FakePlatforms.load_or_create(self.folder)
            self.postgres = held.enter_context(self._start_postgres())
            self.say("Applying migrations")
            migrate.up(self.postgres.dsn(), root=self.root)
            enable_logins(self.postgres.dsn())
            self.postgrest_url = self._start_postgrest(held)
            self.say("Loading the demo world")
            self.demo = demo.load(self.postgres.dsn(), self.root)
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def url(self) -> str:
        """Where the gateway listens."""
        return f"http://{HOST}:{self.port}"

    async def serve(self, on_started: Callable[[], None]) -> None:
        """Run gateway and worker until SIGINT or SIGTERM; what is under way is finished."""
        settings = self._settings()
        logs.configure(level=settings.log_level)
        runtime = Runtime.from_settings(settings)
        # Instead of the one that the settings describe, which is told of no platform.
        runtime = replace(runtime, examiner=self.platforms.examiner())
        gateway = Gateway(Application(runtime, self.root), self.keys, self.postgrest_url)
        worker = Worker(self.postgres.dsn(user="tallybook_worker"), play=runtime.examiner.play)
        working = asyncio.create_task(worker.run())
        try:
            await Host(uvicorn.Config(gateway, **OPTIONS), on_started).serve([self._socket])
        finally:
            worker.stop()
            await working

    def _start_postgres(self) -> EmbeddedPostgres:
        self.say("Starting Postgres")
        settings = FAST if self.fast else DURABLE
        postgres = EmbeddedPostgres(
            self.folder / DATA, tcp=True, port=self.postgres_port or None, settings=settings
        )
        try:
            return postgres.start()
        except RuntimeError as error:
            if "already in use" in str(error):
                raise PortBusy(self.postgres_port) from error
            raise

    def _start_postgrest(self, held: ExitStack) -> str | None:
        program = postgrest.find(self.root)
        if program is None:
            return None
        self.say("Starting PostgREST")
        url = self.postgres.dsn(user="authenticator", tcp=True)
        log = self.folder / "postgrest.log"
        server = postgrest.LocalPostgrest(program, url, self.keys.jwks, log)
        return held.enter_context(server).url

    def _settings(self) -> Settings:
        """What `serve` would be told by its environment; of the real one only what PASSED names."""
        return Settings.from_environment(
            {
                "ENCRYPTION_KEY": self.keys.encryption_key,
                **{name: os.environ[name] for name in PASSED if name in os.environ},
                "ENVIRONMENT": "development",
                "DATABASE_URL": self.postgres.dsn(user="tallybook_functions"),
                "SUPABASE_URL": self.url,
                "SUPABASE_JWKS": msgspec.json.encode(self.keys.jwks).decode(),
                "SUPABASE_JWT_ISSUER": ISSUER,
                "SUPABASE_PUBLISHABLE_KEY": self.keys.publishable_key,
                "SUPABASE_SECRET_KEY": self.keys.secret_key,
                "COUPON_SECRET": self.keys.coupon_secret,
                "TALLYBOOK_CORS_ORIGINS": "*",
            }
        )


def remove(folder: Path) -> None:
    """Remove the local data and keys. Raises InUse while a server runs on them."""
    data = folder / DATA
    if data.is_dir() and answering(Binaries.find(), data.resolve()):
        raise InUse(f"The database in {data} is running.")
    # Where root's Postgres cannot enter the checkout the data lies elsewhere, behind a link, and
    # what belongs to it lies beside it there.
    home = data.resolve().parent if data.is_symlink() else folder
    with suppress(FileNotFoundError):
        data.unlink() if data.is_symlink() else shutil.rmtree(data)
    if home != folder.resolve() and home.name.startswith("tallybook-data-"):
        shutil.rmtree(home)
    for pattern in KEPT:
        for path in folder.glob(pattern):
            path.unlink()


def _listening(port: int) -> socket.socket:
    """A socket that is ours from now on, so that no later start takes the port."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HOST, port))
    except OSError as error:
        found.close()
        raise PortBusy(port) from error
    return found
