"""`tallybook rotate-provider-keys`: users' keys go over to the current ENCRYPTION_KEY."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet

from tallybook.provider_keys import ProviderKeys
from tests.cli.conftest import Run
from tests.world import World

OLD, NEW, LOST = (Fernet.generate_key().decode() for _ in range(3))
API_KEY = "sk-or-v1-0123456789abcdef"
BOTH = {"ENCRYPTION_KEY": NEW, "ENCRYPTION_KEYS_PREVIOUS": OLD}


def connected(world: World, under: str) -> UUID:
    """A user whose key is encrypted under this one."""
    user = uuid4()
    encrypted, key_id = ProviderKeys(under).encrypt(user, API_KEY)
    world.call(
        "public.store_openrouter_account",
        {"user_id": user, "openrouter_api_key_encrypted": encrypted, "key_id": key_id},
        world.functions,
    )
    return user


def stored(world: World) -> dict[UUID, tuple[str, str]]:
    rows = world.rows("select * from openrouter_accounts")
    return {row["user_id"]: (row["openrouter_api_key_encrypted"], row["key_id"]) for row in rows}


@pytest.fixture
def env(tmp_path: Path) -> str:
    path = tmp_path / ".env"
    path.write_text("".join(f"{name}={value}\n" for name, value in BOTH.items()))
    return str(path)


def test_all_that_is_under_an_older_key_is_encrypted_anew(
    operate: Run, world: World, env: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("tallybook.cli.rotate_provider_keys"), "PAGE", 2)
    users = [connected(world, OLD) for _ in range(5)]
    current = connected(world, NEW)
    before = stored(world)

    tried = operate("rotate-provider-keys", "--env-file", env, "--dry-run", "--json")
    assert (tried.code, tried.json["dry_run"], tried.json["rotated"]) == (0, True, 5)
    assert stored(world) == before

    done = operate("rotate-provider-keys", "--env-file", env, "--json")
    assert (done.code, done.json) == (
        0,
        {
            "dry_run": False,
            "key_id": ProviderKeys(NEW).key_id,
            "rotated": 5,
            "changed_meanwhile": 0,
            "failed": [],
        },
    )
    after = stored(world)
    assert after[current] == before[current]
    for user in users:
        assert ProviderKeys(NEW).decrypt(user, after[user][0]) == API_KEY
        assert after[user][1] == ProviderKeys(NEW).key_id
    shown = f"{tried}{done}"
    assert API_KEY not in shown and OLD not in shown and NEW not in shown

    again = operate("rotate-provider-keys", "--env-file", env)
    assert (again.code, again.output.split()[0]) == (0, "0")


def test_what_does_not_open_is_named_and_the_rest_is_done(
    operate: Run, world: World, env: str
) -> None:
    lost, user = connected(world, LOST), connected(world, OLD)
    done = operate("rotate-provider-keys", "--env-file", env, "--json")
    assert (done.code, done.json["rotated"], done.json["failed"]) == (1, 1, [str(lost)])
    assert str(lost) in done.complaint
    assert stored(world)[lost][1] == ProviderKeys(LOST).key_id
    assert stored(world)[user][1] == ProviderKeys(NEW).key_id


def test_without_a_key_there_is_nothing_to_do(operate: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty.env"
    path.write_text(f"ENCRYPTION_KEYS_PREVIOUS={OLD}\n")
    done = operate("rotate-provider-keys", "--env-file", str(path))
    assert done.code == 2
    assert "ENCRYPTION_KEY" in done.complaint and OLD not in done.complaint
