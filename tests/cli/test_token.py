"""`tallybook token` makes tokens that the local gateway's verifier accepts."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from tallybook.caller import Verifier
from tallybook.local.signing import ISSUER, LocalKeys
from tallybook.refusal import Refusal
from tallybook.settings import Settings
from tests.cli.conftest import Run


def verifier(home: Path) -> Verifier:
    keys = LocalKeys.load_or_create(home)
    environment = {"SUPABASE_JWKS": json.dumps(keys.jwks), "SUPABASE_JWT_ISSUER": ISSUER}
    return Verifier(Settings.from_environment(environment))


async def test_a_users_token_is_accepted(run: Run, home: Path) -> None:
    user = uuid4()
    done = run("token", "--sub", str(user))
    assert done.code == 0
    caller = await verifier(home).verify({"authorization": f"Bearer {done.output.strip()}"})
    assert (caller.user_id, caller.role) == (user, "authenticated")


async def test_a_service_token_names_no_user(run: Run, home: Path) -> None:
    said = run("token", "--role", "service_role", "--json").json
    caller = await verifier(home).verify({"authorization": f"Bearer {said['token']}"})
    assert (caller.user_id, caller.role) == (None, "service_role")


async def test_a_token_of_other_keys_is_refused(run: Run, home: Path) -> None:
    token = LocalKeys.new().token(uuid4())
    with pytest.raises(Refusal) as refused:
        await verifier(home).verify({"authorization": f"Bearer {token}"})
    assert refused.value.code == "unauthorized"


@pytest.mark.parametrize("arguments", [(), ("--sub", "someone"), ("--role", "postgres")])
def test_what_makes_no_token_is_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("token", *arguments).code == 2


def test_the_keys_are_made_once_and_are_their_owners_alone(home: Path) -> None:
    folder = home / "new"
    keys = LocalKeys.load_or_create(folder)
    assert LocalKeys.load_or_create(folder) == keys
    assert stat.S_IMODE((folder / "keys.json").stat().st_mode) == 0o600
    assert "d" not in keys.jwks["keys"][0]
    for secret in (keys.secret_key, keys.coupon_secret, keys.signing_key["d"]):
        assert secret not in repr(keys)
