"""The load: users by a seeded generator, who do everything again until they know what became of it.

What a user is not told, because the answer was lost or the database was away, they ask again under
the same key, as often as `TRIES_MAX`. Every request leaves two lines in the user's history: that
it was made, and `ok`, `fail` or `unknown`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Final
from uuid import UUID

from tallybook.local.signing import LocalKeys
from tests.reliability.model import FAIL, OK, UNKNOWN, Kind, Life, Operation
from tests.reliability.operations import KINDS
from tests.reliability.wire import Answer, NoAnswer, Wire

FUNCTIONS_PATH: Final = "/functions/v1/"
LANES: Final = 48
OPERATIONS_OF_A_LIFE: Final = 36
TRIES_MAX: Final = 40
SECONDS_ANSWER_MAX: Final = 20
SECONDS_BEFORE_RETRY: Final = 0.05

REPLAYS: Final = 0.2  # the share of operations that are earlier ones again
TWICE_AT_ONCE: Final = 0.05
IMPATIENT: Final = 0.02  # asks once, and goes away for good when no answer comes
TOKEN_SECONDS: Final = 86_400


class Load:
    """Clients of the server behind `port`. `counts` says what happened."""

    def __init__(
        self,
        seed: str,
        port: int,
        keys: LocalKeys,
        templates: dict[str, int],
        kinds: Sequence[Kind] = KINDS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.decided: Counter[str] = Counter()
        self.up, self.served = asyncio.Event(), asyncio.Event()  # the database, and the server
        self.up.set()
        self.served.set()
        self._seed = seed
        self._port = port
        self._keys = keys
        self._templates = templates
        self._kinds = kinds
        self._waiting: list[tuple[str, int, asyncio.Event]] = []

    def lives(self, name: str, operations: int) -> list[Life]:
        """New users, enough for this many operations; the same ones for the same seed and name."""
        found = []
        for number in range(-(-operations // OPERATIONS_OF_A_LIFE)):
            random = Random(f"{self._seed}:{name}:{number}")
            user = UUID(int=random.getrandbits(128), version=4)
            found.append(Life(user, random, self.credentials(user), self._templates))
        return found

    def credentials(self, user: UUID) -> str:
        """The header line that says who asks, for as long as any run lasts."""
        return f"authorization: Bearer {self._keys.token(user, seconds=TOKEN_SECONDS)}"

    async def run(self, lives: Sequence[Life], revisited: Sequence[Life] = ()) -> None:
        """Everybody lives to their end, `LANES` of them at a time; the old ones only look back."""
        waiting = [
            *((life, False) for life in reversed(lives)),
            *((old, True) for old in revisited),
        ]

        async def lane() -> None:
            while waiting:
                life, again = waiting.pop()
                wire = Wire(self._port)
                try:
                    await (self._revisit(wire, life) if again else self._live(wire, life))
                finally:
                    await wire.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(LANES):
                group.create_task(lane())

    async def reached(self, operations: int) -> None:
        """Return when this many operations are through, counted from the beginning."""
        await self._counted("operations", operations)

    async def refused(self) -> None:
        """Return when the next client is told 503."""
        await self._counted("503", self.counts["503"] + 1)

    async def _counted(self, name: str, count: int) -> None:
        event = asyncio.Event()
        self._waiting.append((name, count, event))
        self._ring()
        await event.wait()

    async def _live(self, wire: Wire, life: Life) -> None:
        for _ in range(OPERATIONS_OF_A_LIFE):
            chance = life.random.random()
            old = [o for o in life.operations if o.state == OK and o.kind.keyed]
            if old and chance < REPLAYS:
                await self._again(wire, life, life.random.choice(old))
            else:
                await self._something_new(wire, life)
            if not life.known:
                return

    async def _revisit(self, wire: Wire, life: Life) -> None:
        for operation in life.operations:
            if operation.state == OK and operation.kind.keyed:
                await self._again(wire, life, operation)

    async def _something_new(self, wire: Wire, life: Life) -> None:
        kinds = list(self._kinds)
        while kinds:
            [kind] = life.random.choices(kinds, [kind.weight for kind in kinds])
            key = f"{life.random.getrandbits(64):016x}"
            body = kind.body(life, key)
            if body is not None:
                break
            kinds.remove(kind)
        else:
            return
        operation = Operation(kind, key, body)
        life.operations.append(operation)
        if kind.at_once and life.random.random() < TWICE_AT_ONCE:
            await self._twice_at_once(wire, life, operation)
        else:
            patience = 1 if life.random.random() < IMPATIENT else TRIES_MAX
            answer = await self._ask(wire, life, operation, patience)
            self._conclude(life, operation, answer)

    async def _again(self, wire: Wire, life: Life, first: Operation) -> None:
        """What was acknowledged is asked for again, and answered as the first time."""
        answer = await self._ask(wire, life, first, TRIES_MAX)
        if answer is None:
            self._through("unknown")  # It is known already what became of it.
            return
        self._through("replay")
        if answer.status != 200 or not answer.replayed:
            life.faults.append(f"{first.key}: a replay was answered {answer.status} {answer.body}")
        elif not first.kind.same(first, answer.body):
            life.faults.append(f"{first.key}: first {first.answer}, then {answer.body}")

    async def _twice_at_once(self, wire: Wire, life: Life, operation: Operation) -> None:
        other = Wire(self._port)
        try:
            answers = await asyncio.gather(
                *(self._ask(one, life, operation, TRIES_MAX) for one in (wire, other))
            )
        finally:
            await other.close()
        self.counts["asked twice at once"] += 1
        # Where others were in the way of one of them, the one that was done says what it came to.
        came = sorted((a for a in answers if a is not None), key=lambda a: a.status >= 400)
        first, more = (came[0] if came else None), came[1:]
        self._conclude(life, operation, first)
        for answer in more:
            if not operation.kind.same(operation, answer.body):
                life.faults.append(f"{operation.key}: at once {first} and {answer}")

    def _conclude(self, life: Life, operation: Operation, answer: Answer | None) -> None:
        if answer is None:
            operation.state = UNKNOWN
        elif answer.status in (200, 202):
            operation.state, operation.answer = OK, answer.body
            for event in answer.body.get("events", ()):
                self.decided[event["event_id"]] += 1
        else:
            operation.state, operation.answer = FAIL, answer.body
            if answer.body.get("code") not in operation.kind.refusals:
                life.faults.append(f"{operation.key}: {answer.status} {answer.body}")
        if answer is None and not operation.kind.traced:
            # What leaves no trace needs no place in the book.
            life.operations.remove(operation)
        self._through(operation.state if answer is not None else "unknown", operation.kind)

    async def _ask(
        self, wire: Wire, life: Life, operation: Operation, patience: int
    ) -> Answer | None:
        """The answer, after as many tries as it takes; None when the client gives up."""
        kind = operation.kind
        path, credentials = FUNCTIONS_PATH + kind.slug, self._asking(kind, life)
        doubtful = False
        for tries in range(1, patience + 1):
            await self.served.wait()
            life.history.append(("invoke", kind.name, operation.key, ""))
            try:
                async with asyncio.timeout(SECONDS_ANSWER_MAX):
                    answer = await wire.post(path, credentials, operation.body)
            except NoAnswer:
                said = "lost"
            except TimeoutError:
                life.faults.append(f"{operation.key}: no answer in {SECONDS_ANSWER_MAX} s")
                said = "silence"
            else:
                if answer.status != 503:
                    state = OK if answer.status in (200, 202) else FAIL
                    life.history.append((state, kind.name, operation.key, str(answer.status)))
                    self.counts["replayed"] += answer.replayed
                    self.counts["replayed after a doubt"] += doubtful and answer.replayed
                    if answer.replayed and not doubtful and operation.state == UNKNOWN:
                        # Its twin was first, or the server itself asked again after a kill.
                        self.counts["replayed at first sight"] += 1
                    return answer
                if "retry-after" not in answer.headers:
                    life.faults.append(f"{operation.key}: 503 without Retry-After")
                said = "503"
            self.counts[said] += 1
            self.counts["in doubt"] += not doubtful
            self._ring()
            doubtful = True
            life.history.append((UNKNOWN, kind.name, operation.key, said))
            if said == "503" and tries < patience:
                # The database is back before anybody asks it again; then its clients come back,
                # each a little later than the last time.
                await self.up.wait()
                await asyncio.sleep(SECONDS_BEFORE_RETRY * tries)
        return None

    def _asking(self, kind: Kind, life: Life) -> str:
        if kind.by_service:
            return f"apikey: {self._keys.secret_key}"
        office = life.seat if kind.by_administrator else None
        return office.administrator if office else life.credentials

    def _through(self, state: str, kind: Kind | None = None) -> None:
        self.counts["operations"] += 1
        self.counts[state] += 1
        if kind is not None:
            self.counts[f"{kind.name} {state}"] += 1
        self._ring()

    def _ring(self) -> None:
        for name, count, event in self._waiting:
            if self.counts[name] >= count:
                event.set()


def summary(counts: Counter[str]) -> dict[str, Any]:
    """The counts for a person."""
    return dict(sorted(counts.items()))
