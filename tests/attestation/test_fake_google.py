"""The kit is kept in a folder, and is as strict as what it stands for."""

from __future__ import annotations

import httpx
import pytest

from tallybook.attestation.google import PlayIntegrity
from tallybook.local.fake_google import FILE, FakeGoogle
from tests.attestation.play import AT, GOOGLE, Clock, payload


async def test_two_processes_that_share_a_folder_share_a_google(tmp_path):
    folder = tmp_path / "local"
    made = FakeGoogle.load_or_create(folder, "com.example.kept")
    found = FakeGoogle.load_or_create(folder, "com.example.other")
    assert found.package_name == "com.example.kept"
    assert (found.policy(), found.console_keys) == (made.policy(), made.console_keys)
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600
    server = PlayIntegrity(found.service_account, found.package_name, found.transport())
    said = made.payload("h", AT)
    assert await server.decode(made.standard_token(said)) == said
    assert await server.decode(made.classic_token(said)) == said
    await server.aclose()


def test_no_secret_is_shown():
    assert repr(GOOGLE).count("=") == 2, repr(GOOGLE)


async def test_the_endpoints_take_what_google_takes_and_nothing_else():
    clock = Clock(AT.timestamp())
    endpoints = GOOGLE.transport(clock)
    google = PlayIntegrity(GOOGLE.service_account, GOOGLE.package_name, endpoints, clock, clock)
    await google.decode(GOOGLE.standard_token(payload()))
    sign_in, decode = endpoints.requests
    async with httpx.AsyncClient(transport=endpoints) as client:

        async def status(request: httpx.Request, **other: object) -> int:
            kept = {"authorization": request.headers.get("authorization", "")}
            asked = {"headers": kept, "content": request.content} | other
            return (await client.post(str(request.url), **asked)).status_code

        assert await status(decode) == 200
        assert await status(decode, headers={}) == 401
        assert await status(decode, headers={"authorization": "Bearer made-up"}) == 401
        assert await status(decode, content=b"{}") == 400
        assert await status(sign_in) == 200
        assert await status(sign_in, content=b"") == 400
        assert await status(sign_in, content=sign_in.content[:-8]) == 400
        clock.now += 3600
        assert await status(sign_in) == 400
        assert await status(decode) == 401
        with pytest.raises(httpx.ConnectError):
            await client.get(str(decode.url))
