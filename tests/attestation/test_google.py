"""Google is asked as itself only, within limits, and its failures are told apart."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tallybook.attestation.circuit_breaker import FAILURES_MAX, OPEN_SECONDS
from tallybook.attestation.evidence import Unavailable
from tallybook.attestation.google import PlayIntegrity
from tallybook.attestation.google_http import ANSWER_BYTES_MAX
from tallybook.local.fake_google_endpoints import TOKEN_SECONDS, FakeEndpoints
from tests.attestation.play import AT, GOOGLE, Clock, payload, rejected

SAID = payload()
TOKEN = GOOGLE.standard_token(SAID)
PACKED = gzip.compress(json.dumps({"tokenPayloadExternal": SAID}).encode())
DECODE = "https://playintegrity.googleapis.com/v1/com.example.steps:decodeIntegrityToken"


@pytest.fixture
def clock() -> Clock:
    """The time of day and the time that passes, as one."""
    return Clock(AT.timestamp())


@pytest.fixture
def endpoints(clock: Clock) -> FakeEndpoints:
    return GOOGLE.transport(clock)


@pytest.fixture
async def google(endpoints: FakeEndpoints, clock: Clock) -> AsyncIterator[PlayIntegrity]:
    asked = asking(endpoints, clock)
    yield asked
    await asked.aclose()


def asking(transport: httpx.AsyncBaseTransport, clock: Clock) -> PlayIntegrity:
    return PlayIntegrity(GOOGLE.service_account, GOOGLE.package_name, transport, clock, clock)


@contextmanager
def unavailable(reason: str, ours: bool = False) -> Iterator[None]:
    with pytest.raises(Unavailable) as caught:
        yield
    assert (caught.value.reason, caught.value.ours) == (reason, ours)
    # httpx's exceptions hold requests, and requests hold secrets.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


async def test_a_standard_and_a_classic_token_are_decoded(google, endpoints):
    assert await google.decode(TOKEN) == SAID
    classic = payload(classic=True)
    assert await google.decode(GOOGLE.classic_token(classic)) == classic
    assert (endpoints.exchanges, endpoints.decodes) == (1, 2)


async def test_the_service_account_may_be_text(endpoints, clock):
    text = json.dumps(GOOGLE.service_account)
    google = PlayIntegrity(text, GOOGLE.package_name, endpoints, clock, clock)
    assert await google.decode(TOKEN) == SAID


async def test_what_google_makes_nothing_of_is_rejected(google, endpoints):
    for token in ("rubbish", TOKEN[:-4], GOOGLE.classic_token(SAID, decryption_key=b"k" * 32)):
        with rejected("token_undecodable"):
            await google.decode(token)
    assert endpoints.decodes == 3


async def test_what_is_no_token_never_leaves(google, endpoints):
    for token, reason in (
        ("", "malformed_token"),
        ("\ud800", "malformed_token"),
        ("two words", "malformed_token"),
        ("A" * 40_000, "token_too_large"),
    ):
        with rejected(reason):
            await google.decode(token)
    assert endpoints.requests == []


async def test_a_429_is_unavailable_and_not_tried_again(google, endpoints):
    endpoints.fail("decode", 429)
    with unavailable("google_rate_limited"):
        await google.decode(TOKEN)
    assert endpoints.decodes == 1
    assert await google.decode(TOKEN) == SAID


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("timeout", "google_timeout"),
        ("unreachable", "google_unreachable"),
        (500, "google_error"),
        (503, "google_error"),
    ],
)
@pytest.mark.parametrize("endpoint", ["token", "decode"])
async def test_what_may_pass_is_tried_once_more(google, endpoints, endpoint, failure, reason):
    endpoints.fail(endpoint, failure)
    assert await google.decode(TOKEN) == SAID
    google._tokens.forget(google._tokens._token)
    endpoints.fail(endpoint, failure, failure)
    before = len(endpoints.requests)
    with unavailable(reason):
        await google.decode(TOKEN)
    asked = [str(request.url) for request in endpoints.requests[before:]]
    assert len([url for url in asked if (url == DECODE) == (endpoint == "decode")]) == 2


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_decode_that_is_refused_is_our_fault(google, endpoints, status):
    endpoints.fail("decode", status)
    with unavailable("decode_refused", ours=True):
        await google.decode(TOKEN)
    assert endpoints.decodes == 1


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_sign_in_that_is_refused_is_our_fault(google, endpoints, status):
    endpoints.fail("token", status)
    with unavailable("credentials_refused", ours=True):
        await google.decode(TOKEN)
    assert (endpoints.exchanges, endpoints.decodes) == (1, 0)


async def test_a_429_at_sign_in_is_nobody_s_fault(google, endpoints):
    endpoints.fail("token", 429)
    with unavailable("google_rate_limited"):
        await google.decode(TOKEN)
    assert endpoints.exchanges == 1


async def test_another_account_s_key_is_our_fault(endpoints, clock):
    other = rsa.generate_private_key(65537, 2048)
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = GOOGLE.service_account | {"private_key": pem}
    google = PlayIntegrity(account, GOOGLE.package_name, endpoints, clock, clock)
    with unavailable("credentials_refused", ours=True):
        await google.decode(TOKEN)


async def test_a_server_that_never_answers_is_given_up_within_the_time_of_two_tries(
    google, endpoints, monkeypatch
):
    monkeypatch.setattr("tallybook.attestation.google_http.TRY_SECONDS_MAX", 0.05)
    loop = asyncio.get_running_loop()
    for endpoint in ("token", "decode"):
        endpoints.fail(endpoint, "hang", "hang")
        started = loop.time()
        with unavailable("google_timeout"):
            await google.decode(TOKEN)
        assert loop.time() - started < 2
    assert (endpoints.exchanges, endpoints.decodes) == (3, 2)
    assert await google.decode(TOKEN) == SAID


async def test_a_try_is_limited_as_a_whole(google, endpoints, monkeypatch):
    """Each of its two requests stays below the limit, and together they pass it."""
    monkeypatch.setattr("tallybook.attestation.google_http.TRY_SECONDS_MAX", 0.2)
    answer, asked = endpoints.handle_async_request, []

    async def slowly(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        await asyncio.sleep(0.12)
        return await answer(request)

    monkeypatch.setattr(endpoints, "handle_async_request", slowly)
    # The first try gets no further than signing in; the second has that behind it.
    assert await google.decode(TOKEN) == SAID
    assert asked == ["/token", *[httpx.URL(DECODE).path] * 2]


async def test_an_access_token_is_kept_until_a_minute_before_it_ends(google, endpoints, clock):
    await google.decode(TOKEN)
    clock.now += TOKEN_SECONDS - 61
    await google.decode(TOKEN)
    assert endpoints.exchanges == 1
    clock.now += 1
    await google.decode(TOKEN)
    assert endpoints.exchanges == 2


async def test_an_access_token_that_is_refused_is_not_used_again(google, endpoints):
    await google.decode(TOKEN)
    endpoints.revoke_access_tokens()
    with unavailable("decode_refused", ours=True):
        await google.decode(TOKEN)
    assert await google.decode(TOKEN) == SAID
    assert endpoints.exchanges == 2


async def test_all_who_wait_share_one_exchange(google, endpoints):
    said = await asyncio.gather(*(google.decode(TOKEN) for _ in range(20)))
    assert said == [SAID] * 20
    assert (endpoints.exchanges, endpoints.decodes) == (1, 20)


async def test_whoever_leaves_does_not_end_the_exchange_that_others_wait_for(
    google, endpoints, monkeypatch
):
    asked, answered = asyncio.Event(), asyncio.Event()
    answer = endpoints.handle_async_request

    async def when_told(request: httpx.Request) -> httpx.Response:
        asked.set()
        await answered.wait()
        return await answer(request)

    monkeypatch.setattr(endpoints, "handle_async_request", when_told)
    impatient = asyncio.create_task(google.decode(TOKEN))
    await asked.wait()
    patient = asyncio.create_task(google.decode(TOKEN))
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    answered.set()
    assert await patient == SAID
    assert endpoints.exchanges == 1


async def test_an_exchange_that_fails_fails_for_all_who_wait(google, endpoints):
    endpoints.fail("token", 403)
    outcomes = await asyncio.gather(
        *(google.decode(TOKEN) for _ in range(3)), return_exceptions=True
    )
    assert [(type(o), getattr(o, "ours", None)) for o in outcomes] == [(Unavailable, True)] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert endpoints.exchanges == 1


async def test_google_is_left_alone_when_it_keeps_failing(google, endpoints, clock):
    endpoints.fail("decode", *[429] * FAILURES_MAX)
    for _ in range(FAILURES_MAX):
        with unavailable("google_rate_limited"):
            await google.decode(TOKEN)
    clock.now += OPEN_SECONDS - 1
    with unavailable("circuit_open"):
        await google.decode(TOKEN)
    assert endpoints.decodes == FAILURES_MAX
    clock.now += 1
    endpoints.fail("decode", 503)
    with unavailable("google_error"):
        await google.decode(TOKEN)
    assert endpoints.decodes == FAILURES_MAX + 1, "a probe is one request"
    clock.now += OPEN_SECONDS
    assert await google.decode(TOKEN) == SAID
    assert await google.decode(TOKEN) == SAID


async def test_what_is_no_token_says_nothing_of_google(google, endpoints):
    endpoints.fail("decode", *[429] * (FAILURES_MAX - 1), 400)
    for _ in range(FAILURES_MAX - 1):
        with unavailable("google_rate_limited"):
            await google.decode(TOKEN)
    with rejected("token_undecodable"):
        await google.decode(TOKEN)
    endpoints.fail("decode", 429)
    with unavailable("google_rate_limited"):
        await google.decode(TOKEN)
    assert await google.decode(TOKEN) == SAID


async def test_we_sign_in_at_google_whatever_the_file_says(endpoints, clock):
    account = GOOGLE.service_account | {
        "token_uri": "https://attacker.example/token",
        "auth_uri": "https://attacker.example/auth",
        "universe_domain": "attacker.example",
    }
    google = PlayIntegrity(account, GOOGLE.package_name, endpoints, clock, clock)
    assert await google.decode(TOKEN) == SAID
    asked = [str(request.url) for request in endpoints.requests]
    assert asked == ["https://oauth2.googleapis.com/token", DECODE]


async def test_what_is_signed_is_what_google_asks_for(google, endpoints):
    await google.decode(TOKEN)
    assertion = dict(httpx.QueryParams(endpoints.requests[0].content.decode()))["assertion"]
    assert jwt.get_unverified_header(assertion) == {
        "alg": "RS256",
        "typ": "JWT",
        "kid": "fake-google-1",
    }
    now = int(AT.timestamp())
    assert jwt.decode(assertion, options={"verify_signature": False}) == {
        "iss": "server@fake-project.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/playintegrity",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": now,
        "exp": now + 3600,
    }


def answering(
    decode: Callable[[httpx.Request], httpx.Response], clock: Clock, **granted: Any
) -> PlayIntegrity:
    """Asks a Google that signs us in, and then answers in this way."""
    grant = {"access_token": "t", "expires_in": 3599, "token_type": "Bearer"} | granted

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "oauth2.googleapis.com":
            return httpx.Response(200, json=grant)
        return decode(request)

    return asking(httpx.MockTransport(answer), clock)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, content=b"not JSON"),
        httpx.Response(200, content=b'{"tokenPayloadExternal": {"a": "\xff"}}'),
        httpx.Response(200, content=b'{"tokenPayloadExternal": {"a":' + b"[" * 60_000),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"tokenPayloadExternal": []}),
        httpx.Response(204),
        httpx.Response(202, json={"tokenPayloadExternal": SAID}),
        httpx.Response(200, content=b" " * (ANSWER_BYTES_MAX + 1)),
        httpx.Response(200, headers={"content-encoding": "gzip"}, content=PACKED),
    ],
    ids=["text", "latin-1", "deep", "empty", "list", "nothing", "accepted", "large", "gzip"],
)
async def test_an_answer_that_cannot_be_read_is_unavailable(answer, clock):
    with unavailable("google_answer"):
        await answering(lambda _: answer, clock).decode(TOKEN)


async def test_an_answer_without_end_is_not_read_to_its_end(clock):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 1024

    with unavailable("google_answer"):
        google = answering(lambda _: httpx.Response(200, content=endless()), clock)
        await google.decode(TOKEN)
    assert sent <= ANSWER_BYTES_MAX / 1024 + 2


async def test_a_redirect_is_not_followed(clock):
    asked = []

    def redirect(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(307, headers={"location": "https://attacker.example/"})

    with unavailable("google_answer"):
        await answering(redirect, clock).decode(TOKEN)
    assert asked == [DECODE]


@pytest.mark.parametrize(
    "granted",
    [
        {"access_token": ""},
        {"access_token": "two words"},
        {"access_token": "tökén"},
        {"access_token": "t\r\nx-injected: 1"},
        {"access_token": None},
        {"expires_in": "3599"},
        {"expires_in": -1},
        {"expires_in": 10**400},
        {"token_type": "mac"},
    ],
    ids=str,
)
async def test_a_grant_that_cannot_be_used_is_unavailable(granted, clock):
    with unavailable("google_answer"):
        await answering(lambda _: httpx.Response(500), clock, **granted).decode(TOKEN)


async def test_no_secret_is_logged(google, endpoints, caplog):
    caplog.set_level(logging.DEBUG)
    await google.decode(TOKEN)
    endpoints.fail("decode", 403, "timeout", "timeout")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await google.decode(TOKEN)
    access_token = endpoints.requests[1].headers["authorization"].removeprefix("Bearer ")
    for secret in (TOKEN, access_token, GOOGLE.service_account["private_key"][30:60]):
        assert secret not in caplog.text


def pem_of(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "authorized_user"},
        {"type": None},
        {"client_email": None},
        {"private_key": "SECRET"},
        {"private_key": pem_of(ec.generate_private_key(ec.SECP256R1()))},
        {"private_key": pem_of(rsa.generate_private_key(65537, 1024))},  # noqa: S505 - refused
    ],
    ids=["user", "typeless", "nobody", "rubbish", "curve", "short"],
)
def test_what_is_no_service_account_is_refused_without_repeating_it(wrong):
    account = GOOGLE.service_account | wrong
    for document in (account, json.dumps(account)):
        with pytest.raises(ValueError) as caught:
            PlayIntegrity(document, GOOGLE.package_name)
        assert "SECRET" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("text", ["", "{", "[]", "\ud800", "/path/to/key.json"])
def test_a_text_that_is_no_json_object_is_no_service_account(text):
    with pytest.raises(ValueError):
        PlayIntegrity(text, GOOGLE.package_name)


def test_a_package_s_name_cannot_lead_elsewhere():
    for name in ("", "a/../v2/b.c", "com.a:decode", "com.example.steps?x"):
        with pytest.raises(ValueError):
            PlayIntegrity(GOOGLE.service_account, name)
