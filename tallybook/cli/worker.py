"""`tallybook worker`: decides what clients submitted, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import psycopg
import typer
import uvloop

from tallybook import logs
from tallybook.attestation.configured import examiner_of
from tallybook.attestation.play import Play
from tallybook.cli.connection import (
    UNUSABLE,
    DatabaseUrl,
    Json,
    database_url,
    fail,
    print_json,
    unreachable,
)
from tallybook.refusal import Refusal
from tallybook.settings import ConfigurationError, Settings
from tallybook.worker import SET_SIZE, VERDICTS, Worker


def worker(
    database: DatabaseUrl = None,
    once: Annotated[bool, typer.Option("--once", help="Decide what is pending, and end.")] = False,
    set_size: Annotated[int, typer.Option(min=1, max=10_000, help="Events at a time.")] = SET_SIZE,
    json: Json = False,
) -> None:
    """Validate submitted events as they come, and keep house.

    SIGTERM and SIGINT let it finish the set it is in; it ends with code 0. Run as many as you like.
    """
    url = database_url(database, role="tallybook_worker")
    try:
        settings = Settings.from_environment()
        logs.configure(level=settings.log_level)
        play = examiner_of(settings).play
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            decided = runner.run(_work(url, set_size, once, play))
    except (ConfigurationError, Refusal) as error:
        fail(str(error), UNUSABLE)
    except psycopg.Error as error:
        unreachable(error)
    counts = {verdict: decided[verdict] for verdict in VERDICTS}
    if json:
        print_json(counts)
    elif once:
        typer.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))


async def _work(url: str, set_size: int, once: bool, play: Play | None) -> dict[str, int]:
    worker = Worker(url, set_size=set_size, play=play)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    if not once:
        await worker.run()
        return worker.decided
    try:
        await worker.drain()
    finally:
        await worker.close()
    return worker.decided
