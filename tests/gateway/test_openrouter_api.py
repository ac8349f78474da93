"""A user's account at OpenRouter over HTTP: a real database, and an OpenRouter on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal as D
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from cryptography.fernet import Fernet

from tallybook.local.fake_openrouter import FakeKey, FakeOpenRouter
from tallybook.provider_keys import ProviderKeys
from tests.conftest import Database
from tests.gateway.client import Client, service
from tests.stack import Stack, running
from tests.world import World

ACCOUNT = "/api/v1/credits/openrouter/account"
SYNC = "/api/v1/credits/openrouter/sync"
KEY = "sk-or-v1-0123456789abcdef"
OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


@dataclass
class Place:
    """A stack beside its OpenRouter."""

    stack: Stack
    openrouter: FakeOpenRouter
    log: Path

    def ask(self, method: str, path: str, client: Client, **more: Any) -> httpx.Response:
        """One request with the client's credentials; no answer may show the key."""
        url = f"{self.stack.url}{path}"
        answer = httpx.request(method, url, headers=client.credentials, timeout=20, **more)
        assert KEY not in answer.text and "gAAAA" not in answer.text
        return answer


@contextmanager
def placed(database: Database, folder: Path, **more: str) -> Iterator[Place]:
    with ExitStack() as things:
        fake = FakeOpenRouter({KEY: FakeKey(owner="user_1", limit_remaining=D("74.5"))})
        url = things.enter_context(fake.serving())
        told = {"ENCRYPTION_KEY": OLD, "OPENROUTER_API_BASE_URL": url, **more}
        stack = things.enter_context(running(database, folder, with_postgrest=False, **told))
        yield Place(stack, fake, folder)


@pytest.fixture
def place(database: Database, tmp_path: Path) -> Iterator[Place]:
    with placed(database, tmp_path) as place:
        yield place


def stored(world: World, user: UUID) -> tuple[str, str]:
    """The encrypted key, and what it is encrypted under."""
    (row,) = world.rows("select * from openrouter_accounts where user_id = %s", (user,))
    return row["openrouter_api_key_encrypted"], row["key_id"]


def test_an_account_is_connected_shown_synced_and_disconnected(
    place: Place, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    user = Client(place.stack)
    assert place.ask("GET", ACCOUNT, user).json()["code"] == "account_not_found"

    answer = place.ask("POST", ACCOUNT, user, json={"api_key": KEY})
    assert answer.status_code == 200, answer.text
    connected = answer.json()
    assert connected.pop("last_synced") == connected.pop("updated_at")
    assert connected == {
        "connected": True,
        "openrouter_account_id": "user_1",
        "free_credits": 74.5,
    }
    encrypted, key_id = stored(world, user.user)
    keys = ProviderKeys(OLD)
    assert (keys.decrypt(user.user, encrypted), key_id) == (KEY, keys.key_id)
    assert place.ask("GET", ACCOUNT, user).json().items() >= connected.items()

    place.openrouter.keys[KEY] = FakeKey(owner="user_1", limit_remaining=D("70.25"))
    synced = place.ask("POST", SYNC, user, json={})
    assert (synced.status_code, synced.json()["free_credits"]) == (200, 70.25)
    assert stored(world, user.user) == (encrypted, key_id)

    assert place.ask("DELETE", ACCOUNT, user).json() == {"connected": False}
    for method, path in (("GET", ACCOUNT), ("DELETE", ACCOUNT), ("POST", SYNC)):
        more = {"json": {}} if method == "POST" else {}
        gone = place.ask(method, path, user, **more)
        assert (gone.status_code, gone.json()["code"]) == (404, "account_not_found")
    said = "".join(capfd.readouterr())
    assert KEY not in said and encrypted not in said


def test_a_key_that_openrouter_rejects_is_not_kept(place: Place, world: World) -> None:
    user = Client(place.stack)
    answer = place.ask("POST", ACCOUNT, user, json={"api_key": "sk-or-v1-nobodys"})
    assert (answer.status_code, answer.json()["code"]) == (400, "provider_key_rejected")
    assert answer.json()["details"] == {"path": "$.api_key"}
    assert "nobodys" not in answer.text
    assert world.count("openrouter_accounts") == 0
    # One that it rejects later stays, as it was known last.
    place.ask("POST", ACCOUNT, user, json={"api_key": KEY})
    before = place.ask("GET", ACCOUNT, user).json()
    place.openrouter.keys.clear()
    assert place.ask("POST", SYNC, user, json={}).json()["code"] == "provider_key_rejected"
    assert place.ask("GET", ACCOUNT, user).json() == before


@pytest.mark.parametrize("body", [{}, {"api_key": ""}, {"api_key": 5}, {"api_key": KEY, "x": 1}])
def test_a_body_that_is_none_asks_nobody(place: Place, body: dict[str, Any]) -> None:
    answer = place.ask("POST", ACCOUNT, Client(place.stack), json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
    assert place.openrouter.asked == []


def test_users_act_for_themselves_and_programs_for_whom_they_name(
    place: Place, world: World
) -> None:
    user, other = Client(place.stack), uuid4()
    theft = place.ask("POST", ACCOUNT, user, json={"api_key": KEY, "user_id": str(other)})
    assert theft.status_code == 403
    assert place.ask("GET", f"{ACCOUNT}?user_id={other}", user).status_code == 403
    assert place.ask("GET", ACCOUNT, Client(place.stack, credentials={})).status_code == 401
    program = service(place.stack)
    assert place.ask("POST", SYNC, program, json={}).status_code == 400
    answer = place.ask("POST", ACCOUNT, program, json={"api_key": KEY, "user_id": str(other)})
    assert answer.status_code == 200
    assert ProviderKeys(OLD).decrypt(other, stored(world, other)[0]) == KEY
    assert place.ask("GET", f"{ACCOUNT}?user_id={other}", program).json()["connected"]


def test_a_row_that_was_copied_to_another_user_does_not_open(place: Place, world: World) -> None:
    user, thief = Client(place.stack), Client(place.stack)
    place.ask("POST", ACCOUNT, user, json={"api_key": KEY})
    world.admin.execute(
        "insert into openrouter_accounts (user_id, openrouter_api_key_encrypted, key_id)"
        " select %s, openrouter_api_key_encrypted, key_id from openrouter_accounts",
        (thief.user,),
    )
    asked = len(place.openrouter.asked)
    answer = place.ask("POST", SYNC, thief, json={})
    assert (answer.status_code, answer.json()["code"]) == (400, "provider_key_rejected")
    assert len(place.openrouter.asked) == asked


def test_after_a_rotation_each_sync_encrypts_anew(
    database: Database, world: World, tmp_path: Path
) -> None:
    user = uuid4()
    encrypted, key_id = ProviderKeys(OLD).encrypt(user, KEY)
    world.call(
        "public.store_openrouter_account",
        {"user_id": user, "openrouter_api_key_encrypted": encrypted, "key_id": key_id},
        world.functions,
    )
    more = {"ENCRYPTION_KEY": NEW, "ENCRYPTION_KEYS_PREVIOUS": OLD}
    with placed(database, tmp_path, **more) as place:
        client = Client(place.stack, user)
        for _ in range(2):
            assert place.ask("POST", SYNC, client, json={}).status_code == 200
            again, key_id = stored(world, user)
            assert key_id == ProviderKeys(NEW).key_id
            assert ProviderKeys(NEW).decrypt(user, again) == KEY


def test_when_openrouter_is_away_nothing_changes(
    database: Database, world: World, tmp_path: Path
) -> None:
    with placed(database, tmp_path, OPENROUTER_API_BASE_URL="http://127.0.0.1:9/api/v1") as place:
        answer = place.ask("POST", ACCOUNT, Client(place.stack), json={"api_key": KEY})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "10"
        assert world.count("openrouter_accounts") == 0


def test_without_an_encryption_key_none_is_taken_but_one_can_be_forgotten(
    database: Database, world: World, tmp_path: Path
) -> None:
    with placed(database, tmp_path, ENCRYPTION_KEY="") as place:
        user = Client(place.stack)
        for path, body in ((ACCOUNT, {"api_key": KEY}), (SYNC, {})):
            answer = place.ask("POST", path, user, json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert place.openrouter.asked == []
        assert place.ask("DELETE", ACCOUNT, user).status_code == 404


def test_where_credits_are_off_so_is_this(database: Database, tmp_path: Path) -> None:
    with placed(database, tmp_path, CREDIT_SYSTEM_ENABLED="false") as place:
        assert place.ask("GET", ACCOUNT, Client(place.stack)).status_code == 503
