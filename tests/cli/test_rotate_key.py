"""`tallybook rotate-key`: a new secret for codes, under which old codes go on working."""

from __future__ import annotations

import json
import shlex
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from tallybook.cli import env_file
from tallybook.coupon_code import CouponKeys, new_code
from tallybook.local.signing import LocalKeys
from tallybook.runtime import Runtime
from tallybook.schema import ROOT
from tallybook.server import Application
from tallybook.settings import Settings
from tests.cli.conftest import COUPON_SECRET, Run
from tests.conftest import Database
from tests.world import World

OTHER = "another-secret,with-a-comma-in-it,long-enough"


@pytest.fixture
def env(tmp_path: Path) -> Path:
    """A service's .env with what people write into such files."""
    path = tmp_path / ".env"
    path.write_text(
        "# Coupons\n"
        f"export COUPON_SECRET={COUPON_SECRET}  # since March\n"
        "SUPABASE_URL=http://127.0.0.1:54321\n"
        "TALLYBOOK_LOG_LEVEL='debug'\n"
    )
    return path


def keys_of(path: Path) -> CouponKeys:
    """The keys of a service that is started with this file."""
    return CouponKeys.from_settings(Settings.from_environment(env_file.read(path)))


def states(said: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    return {key["key_id"]: (key["state"], key["live_coupons"]) for key in said["keys"]}


def test_the_file_is_rewritten_for_its_owner_alone(operate: Run, env: Path) -> None:
    old = keys_of(env)
    code = new_code()
    said = operate("rotate-key", "--env-file", str(env), "--json")
    assert said.code == 0
    new = keys_of(env)
    assert new.key_id != old.key_id
    assert new.hashes(code)[old.key_id] == old.hash_code(code)
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    text = env.read_text()
    for untouched in ("# Coupons\n", "SUPABASE_URL=http", "TALLYBOOK_LOG_LEVEL='debug'\n"):
        assert untouched in text
    assert [path.name for path in env.parent.iterdir()] == [".env"]
    # The file has the secrets, so nothing else shows them.
    for secret in (COUPON_SECRET, env_file.read(env)["COUPON_SECRET"]):
        assert secret not in said.output + said.complaint
    assert states(said.json) == {new.key_id: ("current", 0), old.key_id: ("previous", 0)}


def test_a_dry_run_writes_nothing_and_shows_no_secret(operate: Run, env: Path) -> None:
    before = env.read_text()
    for arguments in (("--env-file", str(env)), ()):
        said = operate("rotate-key", *arguments, "--dry-run", "--json").json
        assert (said["variables"], said["dry_run"]) == ({}, True)
        assert operate("rotate-key", *arguments, "--dry-run").code == 0
    assert env.read_text() == before


def test_without_a_file_the_lines_are_printed(operate: Run) -> None:
    for previous in ("", f'{{"0a1b2c3d": "{OTHER}"}}'):
        told = {"COUPON_SECRETS_PREVIOUS": previous}
        said = operate("rotate-key", "--json", env=told).json["variables"]
        printed = operate("rotate-key", env=told).output.splitlines()[:2]
        for found in (said, dict(shlex.split(line)[0].split("=", 1) for line in printed)):
            settings = Settings.from_environment(found)
            assert settings.coupon_secret != COUPON_SECRET
            assert settings.coupon_secrets_previous == (
                COUPON_SECRET,
                *([OTHER] if previous else []),
            )


@pytest.mark.parametrize(
    "secret",
    [
        OTHER,
        "a secret with spaces and a # in it, really",
        'it\'s "one" with $quotes and a \\ slash!!',
    ],
)
def test_whatever_a_secret_holds_survives(operate: Run, env: Path, secret: str) -> None:
    env_file.write(env, {"COUPON_SECRET": secret})
    key_id = keys_of(env).key_id
    for rotations in (1, 2):
        assert operate("rotate-key", "--env-file", str(env)).code == 0
        settings = Settings.from_environment(env_file.read(env))
        assert settings.coupon_secrets_previous[-1] == secret
        assert len(settings.coupon_secrets_previous) == rotations
    assert operate("rotate-key", "--env-file", str(env), "--retire", key_id).code == 0
    assert secret not in env_file.read(env)["COUPON_SECRETS_PREVIOUS"]


def test_what_cannot_be_rotated_is_code_2(operate: Run, tmp_path: Path) -> None:
    assert operate("rotate-key", env={"COUPON_SECRET": ""}).code == 2
    assert operate("rotate-key", env={"COUPON_SECRET": "short"}).code == 2
    empty = tmp_path / "empty"
    empty.write_text("")
    assert operate("rotate-key", "--env-file", str(empty)).code == 2
    assert operate("rotate-key", "--env-file", str(tmp_path / "absent")).code == 2


def test_without_a_database_nothing_is_counted(run: Run, env: Path) -> None:
    """And a secret is retired by force only: nobody knows who needs it."""
    said = run("rotate-key", "--env-file", str(env), "--json")
    assert said.code == 0
    current, previous = (key["key_id"] for key in said.json["keys"])
    assert {key["live_coupons"] for key in said.json["keys"]} == {None}
    retire = ("rotate-key", "--env-file", str(env), "--retire", previous)
    assert run(*retire).code == 2
    assert run(*retire, "--force").code == 0
    assert set(keys_of(env).hashes(new_code())) == {current}


@asynccontextmanager
async def functions(
    database: Database, env: Path, keys: LocalKeys
) -> AsyncIterator[Callable[..., Any]]:
    """The functions, started with this file; calls one as a user, else as a partner's service."""
    settings = Settings.from_environment(
        {
            **env_file.read(env),
            "DATABASE_URL": database.dsn("tallybook_functions"),
            "SUPABASE_JWKS": json.dumps(keys.jwks),
        }
    )
    runtime = Runtime.from_settings(settings)
    transport = httpx.ASGITransport(Application(runtime, ROOT))

    async def call(name: str, user: UUID | None, **body: str) -> Any:
        token = keys.token(user) if user else keys.token(None, role="service_role")
        answer = await client.post(
            f"/functions/v1/{name}", json=body, headers={"authorization": f"Bearer {token}"}
        )
        return answer.json()

    async with httpx.AsyncClient(transport=transport, base_url="http://functions") as client:
        yield call
    await runtime.database.close()


async def test_old_codes_go_on_working_until_their_secret_is_retired(
    operate: Run, world: World, database: Database, env: Path
) -> None:
    keys = LocalKeys.new()
    user, template = world.user(points=2000), str(world.template(limit=None))

    async with functions(database, env, keys) as call:
        bought = {"template_id": template, "idempotency_key": "key-00001"}
        first = await call("redeem-coupon", user, **bought)
        other = await call("redeem-coupon", user, template_id=template, idempotency_key="key-2")
    (old_key,) = keys_of(env).hashes(first["coupon_code"])

    said = operate("rotate-key", "--env-file", str(env), "--json").json
    assert states(said)[old_key] == ("previous", 2)
    async with functions(database, env, keys) as call:
        # The replay opens the sealed copy of an old secret.
        again = await call("redeem-coupon", user, **bought)
        assert again["coupon_code"] == first["coupon_code"]
        new = await call("redeem-coupon", user, template_id=template, idempotency_key="key-3")
        for coupon in (first, new):
            shown = await call("coupons/verify", None, code=coupon["coupon_code"])
            assert shown["coupon_id"] == coupon["coupon_id"]
        used = {"code": first["coupon_code"], "idempotency_key": "till-00001"}
        assert (await call("coupons/consume", None, **used))["status"] == "redeemed"
    assert (
        world.value("select key_id from coupons where coupon_id = %s", (new["coupon_id"],))
        == keys_of(env).key_id
    )

    retire = ("rotate-key", "--env-file", str(env), "--json", "--retire")
    refused = operate(*retire, old_key)
    assert (refused.code, refused.json["refusal"]["code"]) == (1, "key_in_use")
    secrets = {name: value for name, value in env_file.read(env).items() if "COUPON" in name}
    till = ("coupon", "consume", other["coupon_code"], "--key", "till-00002")
    assert operate(*till, env=secrets).code == 0
    assert old_key not in states(operate(*retire, old_key).json)
    assert "COUPON_SECRETS_PREVIOUS" not in env_file.read(env)
    for key_id, code in ((old_key, "key_not_found"), (keys_of(env).key_id, "key_in_use")):
        assert operate(*retire, key_id).json["refusal"]["code"] == code
    async with functions(database, env, keys) as call:
        assert (await call("coupons/verify", None, code=new["coupon_code"]))["valid"]


def test_a_secret_that_is_lost_is_told(operate: Run, world: World, env: Path) -> None:
    """Live coupons under a key that nobody has: their codes are not found."""
    world.redeem(world.user(points=500), world.template())
    said = operate("rotate-key", "--env-file", str(env), "--dry-run", "--json").json
    assert states(said)["k1"] == ("missing", 1)
