"""What the functions are measured in: a database, signed-in users, what servers need to know."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg

from benchmarks import world
from benchmarks.bench import Bench
from benchmarks.hosts import Host
from benchmarks.rounds import Run, Sample
from benchmarks.stand import Database
from benchmarks.tokens import Issuer
from benchmarks.wrk import Load, wrk

LOGIN = "tallybook_functions"
TOKENS_MAX = 2_000

_runs = count(1)


@dataclass(frozen=True, slots=True)
class Scene:
    """A database, the tokens of its users, and what servers need to know."""

    bench: Bench
    database: Database
    tokens: Path
    service_token: str
    environ: dict[str, str]

    def loaded(self, host: Host, slug: str, body: str, written: str, connections: int) -> Run:
        """wrk on one function of one host; `written` counts a run's rows by its nonces."""
        load = Load(self.tokens, host.prefix + slug, body)

        def run(seconds: float) -> Sample:
            name = f"run {next(_runs)} "
            sample = wrk(host.port, load, run=name, connections=connections, seconds=seconds)
            rows = self.database.number(written, name)
            self.bench.check(
                f"{slug}: {rows} rows for {sample.count} answers over {connections} connections",
                sample.count <= rows <= sample.count + connections,
            )
            return sample

        return run


@contextmanager
def scene(bench: Bench, queued: int = 0) -> Iterator[Scene]:
    """A copy of the world with signed-in users, and so many events in the queue."""
    with bench.stand.database() as database, tempfile.TemporaryDirectory() as folder:
        issuer = Issuer()
        with psycopg.connect(database.dsn()) as connection:
            users = world.user_ids(connection, min(bench.stand.users, TOKENS_MAX))
            if queued:
                world.fill_queue(connection, bench.stand.users, queued)
        database.settle()
        tokens = Path(folder) / "tokens"
        tokens.write_text("\n".join(issuer.users(users)) + "\n")
        environ = {
            "DATABASE_URL": database.dsn(LOGIN, tcp=True),
            "SUPABASE_JWKS": issuer.jwks,
            "COUPON_SECRET": secrets.token_hex(32),
        }
        yield Scene(bench, database, tokens, issuer.service(), environ)


def submission() -> str:
    """The body of a submission that just happened."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f'{{"event_type":"workout","event_time":"{now}","nonce":"NONCE"}}'
