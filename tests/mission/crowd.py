"""Many clients at once, each over a connection of its own, beginning at the same moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import Barrier
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.gateway.client import Client

SECONDS_MAX = 60


class Answer(NamedTuple):
    """What one request got."""

    status: int
    body: Any

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.body["code"]


class Visit(NamedTuple):
    """Whose connection it is, and what is sent over it, one after the other."""

    client: Client
    path: str
    bodies: Sequence[Any]


def crowd(visits: Sequence[Visit]) -> list[list[Answer]]:
    """All answers of every visit, in their order.

    By hand, because httpx takes seconds to open a hundred connections.
    """
    start = Barrier(len(visits))

    def make(visit: Visit) -> list[Answer]:
        address = urlsplit(visit.client.stack.url)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=SECONDS_MAX)
        connection.connect()
        start.wait(SECONDS_MAX)
        answers = []
        for body in visit.bodies:
            connection.request("POST", visit.path, json.dumps(body), visit.client.credentials or {})
            response = connection.getresponse()
            answers.append(Answer(response.status, json.loads(response.read())))
        connection.close()
        return answers

    with ThreadPoolExecutor(len(visits)) as pool:
        return list(pool.map(make, visits))
