"""Who is let in, as whom, and everything that is not: tokens, API keys, their mixtures."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tallybook import caller as caller_module
from tallybook import logs
from tallybook.caller import LEEWAY_SECONDS, Caller, Verifier
from tallybook.refusal import Refusal
from tallybook.settings import Settings

NOW = 1_800_000_000.0
USER = "6f1a2b3c-4d5e-4f60-8a9b-0c1d2e3f4a5b"
ISSUER = "https://abc.supabase.co/auth/v1"
HS_SECRET = "an hs256 secret of well over thirty-two bytes"
PUBLISHABLE, SECRET = "sb_publishable_k1bbbbbbbbbbbbbbbb", "sb_secret_k1aaaaaaaaaaaaaaaa"

EC_KEY = ec.generate_private_key(ec.SECP256R1())
EC_OTHER = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    logs.configure(io.StringIO())
    yield
    logs.configure()


def public_jwk(private: Any, kid: str | None, **members: object) -> dict[str, Any]:
    algorithm = ECAlgorithm if isinstance(private, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    jwk: dict[str, Any] = algorithm.to_jwk(private.public_key(), as_dict=True)
    return {**jwk, **({"kid": kid} if kid else {}), "use": "sig", "key_ops": ["verify"], **members}


JWKS = (public_jwk(EC_KEY, "ec1", alg="ES256"), public_jwk(RSA_KEY, "rsa1", alg="RS256"))


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def claims(**changes: Any) -> dict[str, Any]:
    """A user's good claims; None takes a claim out."""
    good = {
        "sub": USER,
        "role": "authenticated",
        "aud": "authenticated",
        "iss": ISSUER,
        "exp": int(NOW) + 3600,
        "iat": int(NOW),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(key: Any = EC_KEY, alg: str = "ES256", kid: str | None = "ec1", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, alg, headers={"kid": kid} if kid else None)


def encoded(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def handmade(header: object, key: bytes, **changes: Any) -> str:
    """A token that jwt.encode would not make: any header, HMAC-SHA-256 under any bytes."""
    signing_input = f"{encoded(header)}.{encoded(claims(**changes))}"
    return f"{signing_input}.{encoded(hmac.digest(key, signing_input.encode(), 'sha256'))}"


def legacy(role: str, key: str = HS_SECRET, **changes: Any) -> str:
    body = {"iss": "supabase", "ref": "abc", "role": role, "iat": 1, "exp": int(NOW) + 3600}
    return jwt.encode({**body, **changes}, key, "HS256")


def verifier(
    clock: Clock | None = None, monotonic: Clock | None = None, **changes: Any
) -> Verifier:
    settings = {"jwks": JWKS, "jwt_issuer": ISSUER, **changes}
    return Verifier(
        Settings(**settings), clock=clock or Clock(NOW), monotonic=monotonic or Clock(0.0)
    )


def bearer(credentials: str, apikey: str | None = None) -> dict[str, str]:
    return {"authorization": f"Bearer {credentials}", **({"apikey": apikey} if apikey else {})}


async def refused(verify: Verifier, headers: dict[str, str], status: int = 401) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await verify.verify(headers)
    assert caught.value.status == status
    assert caught.value.code == {401: "unauthorized", 503: "unavailable"}[status]
    assert len(caught.value.detail or "") < 100
    for part in " ".join(headers.values()).split():
        assert len(part) < 20 or part not in str(caught.value)
    return caught.value


# Users' tokens


@pytest.mark.parametrize(
    "good",
    [
        token(),
        token(RSA_KEY, "RS256", "rsa1"),
        token(kid=None),
        token(aud=["other", "authenticated"]),
        token(sub=USER.upper()),
        token(exp=int(NOW) - LEEWAY_SECONDS + 1),
        token(nbf=int(NOW) + LEEWAY_SECONDS),
    ],
)
async def test_a_user_s_token_names_the_user(good):
    caller = await verifier().verify(bearer(good))
    assert (caller.user_id, caller.role) == (UUID(USER), "authenticated")
    assert caller.claims["aud"]


async def test_the_scheme_may_be_written_in_any_case():
    for scheme in ("bearer", "BEARER"):
        caller = await verifier().verify({"authorization": f"{scheme} {token()}"})
        assert caller.role == "authenticated"


async def test_a_user_s_token_works_beside_any_api_key():
    caller = await verifier(secret_keys=(SECRET,)).verify(bearer(token(), SECRET))
    assert caller.role == "authenticated"


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": int(NOW) - LEEWAY_SECONDS},
        {"exp": str(int(NOW) + 3600)},
        {"exp": True},
        {"nbf": int(NOW) + LEEWAY_SECONDS + 1},
        {"nbf": "soon"},
        {"sub": None},
        {"sub": "alice"},
        {"sub": f"{{{USER}}}"},
        {"sub": f"urn:uuid:{USER}"},
        {"sub": USER.replace("-", "")},
        {"aud": None},
        {"aud": "anon"},
        {"aud": "authenticated2"},
        {"aud": []},
        {"aud": {"authenticated": 1}},
        {"iss": None},
        {"iss": "https://evil.example/auth/v1"},
        {"iss": [ISSUER]},
        {"role": None},
        {"role": "postgres"},
        {"role": "supabase_admin"},
        {"role": ["authenticated"]},
        {"role": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize("shared_secret", [False, True])
async def test_a_claim_that_is_wrong_is_refused(changes, shared_secret):
    body = json.dumps(claims(**changes)).encode()
    key, alg, kid = (HS_SECRET, "HS256", None) if shared_secret else (EC_KEY, "ES256", "ec1")
    signed = jwt.api_jws.encode(body, key, alg, headers={"kid": kid} if kid else None)
    await refused(verifier(jwt_secret=HS_SECRET), bearer(signed))


async def test_the_issuer_is_free_where_none_is_configured():
    caller = await verifier(jwt_issuer=None).verify(bearer(token(iss="anybody")))
    assert caller.user_id == UUID(USER)


async def test_the_role_comes_from_the_role_claim_alone():
    caller = await verifier().verify(
        bearer(
            token(
                user_role="service_role",
                app_metadata={"role": "service_role"},
                user_metadata={"role": "service_role"},
            )
        )
    )
    assert caller.role == "authenticated"
    assert "user_metadata" not in caller.claims and "app_metadata" in caller.claims


async def test_a_caller_cannot_be_changed():
    caller = await verifier().verify(bearer(token()))
    assert isinstance(caller.claims, MappingProxyType)
    with pytest.raises(AttributeError):
        caller.role = "service_role"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("user_id", "role"),
    [(None, "authenticated"), (UUID(USER), "service_role"), (UUID(USER), "anon")],
)
def test_a_user_and_nobody_else_has_a_user_id(user_id, role):
    """To a procedure nobody is a program with the secret key, which may do more."""
    with pytest.raises(ValueError):
        Caller(user_id, role, MappingProxyType({}))


# Forgeries

PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
EC_PEM = EC_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
GOOD = token()
HEAD, BODY, SIGNATURE = GOOD.split(".")
DEEP_HEADER = b'{"alg":"ES256","x":' + b"[" * 5000


@pytest.mark.parametrize(
    "forged",
    [
        f"{encoded({'alg': 'none'})}.{BODY}.",
        f"{encoded({'alg': 'none'})}.{BODY}.{SIGNATURE}",
        f"{encoded({'alg': 'None', 'kid': 'ec1'})}.{BODY}.",
        f"{encoded({'kid': 'ec1'})}.{BODY}.{SIGNATURE}",
        f"{encoded({'alg': ['ES256'], 'kid': 'ec1'})}.{BODY}.{SIGNATURE}",
        f"{encoded({'alg': 'ES256', 'kid': 7})}.{BODY}.{SIGNATURE}",
        f"{encoded([])}.{BODY}.{SIGNATURE}",
        f"{encoded(b'[' * 4000)}.{BODY}.{SIGNATURE}",
        f"{encoded(DEEP_HEADER)}.{BODY}.{SIGNATURE}",
        handmade({"alg": "HS256", "crit": []}, HS_SECRET.encode()),
        handmade({"alg": "HS256", "crit": ["exp"]}, HS_SECRET.encode()),
        handmade({"alg": "HS256", "b64": True}, HS_SECRET.encode()),
        handmade({"alg": "HS256", "kid": "rsa1"}, PEM),
        handmade({"alg": "HS256", "kid": "ec1"}, EC_PEM),
        handmade({"alg": "HS256"}, PEM.strip()),
        handmade({"alg": "HS256"}, JWKS[1]["n"].encode()),
        handmade({"alg": "HS256"}, b""),
        handmade({"alg": "RS256", "kid": "rsa1"}, PEM),
        handmade({"alg": "HS512"}, HS_SECRET.encode()),
        token(EC_OTHER),
        token(kid="unknown"),
        token(kid="rsa1"),
        token(RSA_KEY, "RS256", "ec1"),
        token(RSA_KEY, "PS256", "rsa1"),
        token(RSA_KEY, "RS512", "rsa1"),
        jwt.encode(claims(), EC_KEY, "ES256", headers={"kid": "ec1", "crit": ["exp"]}),
        f"{encoded({'alg': 'ES256', 'kid': 'ec1', 'crit': []})}.{BODY}.{SIGNATURE}",
        f"{encoded({'alg': 'ES256', 'kid': 'ec1', 'b64': True})}.{BODY}.{SIGNATURE}",
        f"{HEAD}.{encoded(claims(role='service_role'))}.{SIGNATURE}",
        f"{HEAD}.{BODY}.",
        f"{HEAD}.{BODY}",
        f"{HEAD}.{BODY}.{SIGNATURE}.{SIGNATURE}",
        f"{HEAD}.{BODY}.{SIGNATURE[:-2]}",
        f" {GOOD}",
        f"{GOOD} {GOOD}",
        GOOD.replace(".", ","),
        "é" + GOOD,
        GOOD + "\ud800",
        "",
        ".",
        "..",
        "sb_",
    ],
)
@pytest.mark.parametrize("jwt_secret", [None, HS_SECRET])
async def test_a_forged_token_is_refused(forged, jwt_secret):
    await refused(verifier(jwt_secret=jwt_secret), bearer(forged))


async def test_a_key_in_the_token_s_own_header_is_never_used():
    own = {"kid": "mine", "jwk": public_jwk(EC_OTHER, "mine"), "jku": "http://127.0.0.1:9/jwks"}
    forged = jwt.encode(claims(), EC_OTHER, "ES256", headers=own)
    await refused(verifier(), bearer(forged))


async def test_hs256_is_a_path_of_its_own():
    shared = token(HS_SECRET, "HS256", None)
    await refused(verifier(), bearer(shared))
    caller = await verifier(jwt_secret=HS_SECRET).verify(bearer(shared))
    assert caller.user_id == UUID(USER)
    await refused(verifier(jwt_secret="another secret, also of thirty-two bytes"), bearer(shared))


async def test_a_token_of_more_than_8_kib_is_not_even_read():
    long = token(app_metadata={"groups": "x" * 8192})
    await refused(verifier(), bearer(long))


@pytest.mark.parametrize(
    "jwk",
    [
        public_jwk(EC_KEY, "ec1", alg="ES384"),
        public_jwk(EC_KEY, "ec1", use="enc"),
        public_jwk(EC_KEY, "ec1", key_ops=["sign"]),
        public_jwk(EC_KEY, "ec1", crv="P-384"),
        public_jwk(EC_KEY, "ec1", kty="RSA"),
        public_jwk(EC_KEY, "ec1", x="AAAA"),
        {"kty": "oct", "k": encoded(HS_SECRET.encode()), "kid": "ec1", "alg": "HS256"},
        public_jwk(EC_KEY, "ec1", key_ops=7),
        {**public_jwk(EC_KEY, None), "kid": 7},
        {"kty": ["EC"], "kid": "ec1"},
    ],
)
async def test_a_key_not_made_for_this_checks_nothing(jwk):
    verify = verifier(jwks=(jwk,))
    await refused(verify, bearer(token()))
    await refused(verify, bearer(token(HS_SECRET, "HS256", "ec1")))


async def test_a_small_rsa_key_checks_nothing():
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    verify = verifier(jwks=(public_jwk(small, "small"),))
    signing_input = f"{encoded({'alg': 'RS256', 'kid': 'small'})}.{encoded(claims())}".encode()
    signature = encoded(small.sign(signing_input, PKCS1v15(), SHA256()))
    await refused(verify, bearer(f"{signing_input.decode()}.{signature}"))


async def test_without_a_key_id_two_keys_are_no_answer():
    verify = verifier(jwks=(*JWKS, public_jwk(EC_OTHER, "ec2")))
    await refused(verify, bearer(token(kid=None)))
    assert (await verify.verify(bearer(token(EC_OTHER, kid="ec2")))).user_id == UUID(USER)


# API keys

KEYS = {
    "publishable_keys": ("sb_publishable_k0", PUBLISHABLE),
    "secret_keys": ("sb_secret_k0aaaaaaaaaaaaaaaa", SECRET),
}
ANON, SERVICE = legacy("anon"), legacy("service_role")


@pytest.mark.parametrize(
    ("headers", "role"),
    [
        ({"apikey": PUBLISHABLE}, "anon"),
        ({"apikey": SECRET}, "service_role"),
        (bearer(PUBLISHABLE, PUBLISHABLE), "anon"),
        (bearer(SECRET, SECRET), "service_role"),
        ({"apikey": "sb_publishable_k0"}, "anon"),
        ({"apikey": "sb_secret_k0aaaaaaaaaaaaaaaa"}, "service_role"),
    ],
)
async def test_a_new_api_key_has_a_role_and_no_user(headers, role):
    assert await verifier(**KEYS).verify(headers) == Caller(None, role, MappingProxyType({}))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"apikey": ""},
        {"apikey": "sb_secret_wrong"},
        {"apikey": "sb_publishable_wrong"},
        {"apikey": SECRET + "a"},
        {"apikey": SECRET[:-1]},
        {"apikey": SECRET.replace("secret", "publishable")},
        {"apikey": "anything"},
        {"apikey": token()},
        bearer(SECRET),
        bearer(SECRET, PUBLISHABLE),
        bearer(PUBLISHABLE, SECRET),
        bearer(SECRET, "\ud800"),
        bearer("garbage", SECRET),
        bearer("", SECRET),
        {"authorization": "", "apikey": SECRET},
        {"authorization": SECRET, "apikey": SECRET},
        {"authorization": f"Basic {SECRET}", "apikey": SECRET},
        {"authorization": "Bearer", "apikey": SECRET},
        bearer(token(exp=1), SECRET),
        bearer(f"{encoded({'alg': 'none'})}.{BODY}.", SECRET),
    ],
)
async def test_a_bad_credential_never_falls_through_to_another(headers):
    await refused(verifier(**KEYS), headers)


async def test_unconfigured_api_keys_open_nothing():
    for headers in ({"apikey": PUBLISHABLE}, {"apikey": SECRET}, {"apikey": SERVICE}):
        await refused(verifier(), headers)


@pytest.mark.parametrize("how", ["apikey alone", "both", "bearer alone"])
@pytest.mark.parametrize("by", ["comparison", "HS256"])
@pytest.mark.parametrize(("key", "role"), [(ANON, "anon"), (SERVICE, "service_role")])
async def test_an_old_api_key_has_its_role(how, by, key, role):
    known = {
        "comparison": {"anon_key": ANON, "service_role_key": SERVICE},
        "HS256": {"jwt_secret": HS_SECRET},
    }[by]
    headers = {"apikey alone": {"apikey": key}, "both": bearer(key, key)}.get(how, bearer(key))
    verify = verifier(**known)
    for _ in range(2):
        caller = await verify.verify(headers)
        assert (caller.user_id, caller.role) == (None, role)
        assert caller.claims["ref"] == "abc"


async def test_an_old_api_key_expires():
    for known in ({"service_role_key": SERVICE}, {"jwt_secret": HS_SECRET}):
        clock = Clock(NOW)
        verify = verifier(clock, **known)
        assert (await verify.verify(bearer(SERVICE))).role == "service_role"
        clock.now = NOW + 3600 + LEEWAY_SECONDS
        await refused(verify, bearer(SERVICE))


async def test_an_old_api_key_of_another_project_is_refused():
    foreign = legacy("service_role", key="the secret of quite another project")
    for known in ({"service_role_key": SERVICE}, {"jwt_secret": HS_SECRET}):
        await refused(verifier(**known), {"apikey": foreign})


async def test_new_keys_may_stand_under_the_old_names():
    verify = verifier(anon_key=PUBLISHABLE, service_role_key=SECRET)
    assert (await verify.verify({"apikey": PUBLISHABLE})).role == "anon"
    assert (await verify.verify({"apikey": SECRET})).role == "service_role"


async def test_a_signed_service_token_must_be_from_the_issuer():
    good = token(role="service_role", sub=None, aud=None)
    caller = await verifier().verify(bearer(good))
    assert (caller.role, caller.user_id) == ("service_role", None)
    await refused(verifier(), bearer(token(role="service_role", iss="elsewhere")))
    await refused(verifier(), bearer(token(role="service_role", aud="elsewhere")))


# The cache


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one with every signature that is really checked."""
    seen: list[str] = []
    check = caller_module._JWS.decode_complete

    def counted(text: str, *arguments: Any, **named: Any) -> Any:
        seen.append(hashlib.sha256(text.encode()).hexdigest())
        return check(text, *arguments, **named)

    monkeypatch.setattr(caller_module._JWS, "decode_complete", counted)
    return seen


async def test_a_token_is_verified_once(verifications):
    verify = verifier()
    first = await verify.verify(bearer(GOOD))
    for _ in range(3):
        assert await verify.verify(bearer(GOOD)) is first
    assert len(verifications) == 1
    await verify.verify(bearer(token(iat=int(NOW) - 1)))
    assert len(verifications) == 2


async def test_a_bad_token_is_never_remembered(verifications):
    verify = verifier()
    for _ in range(3):
        await refused(verify, bearer(token(EC_OTHER)))
    assert len(verifications) == 3
    assert not verify._cache


async def test_the_cache_never_outlives_the_token():
    clock = Clock(NOW)
    verify = verifier(clock)
    short = token(exp=int(NOW) + 10)
    await verify.verify(bearer(short))
    clock.now = NOW + 10 + LEEWAY_SECONDS - 0.001
    await verify.verify(bearer(short))
    clock.now = NOW + 10 + LEEWAY_SECONDS
    await refused(verify, bearer(short))
    assert not verify._cache


async def test_the_cache_is_bounded_and_keeps_what_was_used_last(monkeypatch):
    monkeypatch.setattr(caller_module, "CACHED_TOKENS_MAX", 3)
    verify = verifier()
    tokens = [token(iat=int(NOW) - age) for age in range(4)]
    for each in tokens[:3]:
        await verify.verify(bearer(each))
    await verify.verify(bearer(tokens[0]))
    await verify.verify(bearer(tokens[3]))
    kept = set(verify._cache)
    assert kept == {hashlib.sha256(tokens[n].encode()).digest() for n in (0, 2, 3)}


# Keys from a URL


class KeyServer:
    """A real HTTP server of a key set; what it answers can be changed at any time."""

    def __init__(self) -> None:
        self.document: bytes = b""
        self.status = 200
        self.asked = 0
        self.drip_seconds = 0.0
        self.gate: threading.Event | None = None
        self.closing = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked += 1
                if owner.gate:
                    owner.gate.wait(5)
                self.send_response(owner.status)
                self.send_header("Content-Length", str(len(owner.document)))
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                try:
                    for byte in owner.document if owner.drip_seconds else b"":
                        self.wfile.write(bytes([byte]))
                        owner.closing.wait(owner.drip_seconds)
                    if not owner.drip_seconds:
                        self.wfile.write(owner.document)
                except OSError:
                    """The client gave up."""

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def serve(self, *keys: dict[str, Any]) -> None:
        self.document, self.status = json.dumps({"keys": keys}).encode(), 200

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    key_server = KeyServer()
    key_server.serve(*JWKS)
    yield key_server
    key_server.close()


def by_url(server: KeyServer, monotonic: Clock | None = None, **changes: Any) -> Verifier:
    return verifier(monotonic=monotonic, **{"jwks": None, "jwks_url": server.url, **changes})


async def test_keys_are_fetched_once(server):
    verify = by_url(server)
    assert server.asked == 0
    assert (await verify.verify(bearer(token()))).user_id == UUID(USER)
    await verify.verify(bearer(token(RSA_KEY, "RS256", "rsa1")))
    await refused(verify, bearer(token(kid="unknown")))
    assert server.asked == 1


async def test_many_callers_share_one_fetch(server):
    verify = by_url(server)
    callers = await asyncio.gather(*(verify.verify(bearer(token())) for _ in range(20)))
    assert {caller.user_id for caller in callers} == {UUID(USER)}
    assert server.asked == 1


async def test_a_caller_who_goes_away_does_not_end_the_fetch(server):
    server.gate = threading.Event()
    verify = by_url(server)
    impatient = asyncio.create_task(verify.verify(bearer(token())))
    patient = asyncio.create_task(verify.verify(bearer(token())))
    while server.asked == 0:
        await asyncio.sleep(0)
    impatient.cancel()
    server.gate.set()
    assert (await patient).user_id == UUID(USER)
    assert impatient.cancelled() and server.asked == 1


async def test_an_unknown_key_id_asks_again_but_not_often(server):
    monotonic = Clock(0.0)
    verify = by_url(server, monotonic)
    await verify.verify(bearer(token()))
    rotated = token(EC_OTHER, kid="ec2")
    server.serve(*JWKS, public_jwk(EC_OTHER, "ec2"))
    monotonic.now = 29.9
    for _ in range(5):
        await refused(verify, bearer(rotated))
    assert server.asked == 1
    monotonic.now = 30.0
    assert (await verify.verify(bearer(rotated))).user_id == UUID(USER)
    assert server.asked == 2
    for _ in range(5):
        await refused(verify, bearer(token(kid="unknown")))
    assert server.asked == 2


async def test_a_withdrawn_key_drops_the_tokens_it_verified(server):
    monotonic = Clock(0.0)
    verify = by_url(server, monotonic)
    await verify.verify(bearer(GOOD))
    server.serve(public_jwk(EC_OTHER, "ec2"))
    monotonic.now = 30.0
    await verify.verify(bearer(token(EC_OTHER, kid="ec2")))
    await refused(verify, bearer(GOOD))


async def test_a_withdrawn_key_is_noticed_without_being_asked_for(server):
    monotonic = Clock(0.0)
    verify = by_url(server, monotonic)
    await verify.verify(bearer(GOOD))
    server.serve(public_jwk(EC_OTHER, "ec2"))
    monotonic.now = 600.0
    # Served from memory once more while the fetch that this call starts is under way.
    await verify.verify(bearer(GOOD))
    await verify._keys._fetching
    await refused(verify, bearer(GOOD))


async def test_the_same_keys_again_keep_the_cache(server, verifications):
    monotonic = Clock(0.0)
    verify = by_url(server, monotonic)
    await verify.verify(bearer(GOOD))
    monotonic.now = 600.0
    await verify.verify(bearer(GOOD))
    await verify._keys._fetching
    await verify.verify(bearer(GOOD))
    assert server.asked == 2 and len(verifications) == 1


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (500, b"{}"),
        (302, b"{}"),
        (200, b"not json"),
        (200, b'{"keys":7}'),
        (200, b"{}"),
        (200, b'{"keys":[]' + b" " * 70_000 + b"}"),
    ],
)
async def test_old_keys_stay_while_the_url_is_broken(server, status, document):
    monotonic = Clock(0.0)
    verify = by_url(server, monotonic)
    await verify.verify(bearer(token()))
    server.status, server.document = status, document
    monotonic.now = 1_000.0
    await refused(verify, bearer(token(kid="unknown")))
    assert server.asked == 2
    other = token(iat=int(NOW) - 5)
    assert (await verify.verify(bearer(other))).user_id == UUID(USER)


async def test_without_any_keys_it_is_unavailable_not_unauthorized(server):
    monotonic = Clock(0.0)
    verify = by_url(server, monotonic, jwt_secret=HS_SECRET, **KEYS)
    server.status = 500
    refusal = await refused(verify, bearer(token()), 503)
    assert refusal.headers["Retry-After"] == "1"
    for _ in range(5):
        await refused(verify, bearer(token()), 503)
    assert server.asked == 1
    # What needs no public key goes on.
    assert (await verify.verify({"apikey": SECRET})).role == "service_role"
    assert (await verify.verify(bearer(token(HS_SECRET, "HS256", None)))).role == "authenticated"
    await refused(verify, bearer(f"{encoded({'alg': 'none'})}.{BODY}."))
    server.serve(*JWKS)
    monotonic.now = 1.0
    assert (await verify.verify(bearer(token()))).user_id == UUID(USER)


async def test_a_server_that_is_gone_is_unavailable(server):
    url = server.url
    server.server.server_close()
    await refused(verifier(jwks=None, jwks_url=url), bearer(token()), 503)


async def test_a_server_that_never_answers_is_given_up(server, monkeypatch):
    monkeypatch.setattr("tallybook.key_set.FETCH_SECONDS_MAX", 0.05)
    server.gate = threading.Event()
    try:
        await refused(by_url(server), bearer(token()), 503)
    finally:
        server.gate.set()


async def test_a_server_that_drips_is_given_up(server, monkeypatch):
    """Every byte comes in time, the document never ends: only a limit on the whole helps."""
    monkeypatch.setattr("tallybook.key_set.FETCH_SECONDS_MAX", 0.2)
    server.drip_seconds = 0.02
    server.document = b" " * 60_000
    started = time.monotonic()
    await refused(by_url(server), bearer(token()), 503)
    assert time.monotonic() - started < 5


async def test_inline_keys_and_fetched_ones_add_up(server):
    server.serve(public_jwk(EC_OTHER, "ec2"))
    verify = by_url(server, jwks=JWKS)
    await verify.verify(bearer(token()))
    assert server.asked == 0
    await verify.verify(bearer(token(EC_OTHER, kid="ec2")))
    await verify.verify(bearer(token(iat=int(NOW) - 1)))
    assert server.asked == 1


async def test_it_can_be_made_ready_beforehand(server):
    verify = by_url(server)
    assert await verify.load() and await verify.load()
    assert server.asked == 1
    server.status = 500
    assert not await by_url(server).load()
    assert await verifier().load()
    assert await verifier(jwks=None, jwt_secret=HS_SECRET).load()
    assert not await verifier(jwks=None).load()


def test_a_verifier_outlives_an_event_loop(server):
    verify = by_url(server)
    for _ in range(2):
        caller = asyncio.run(verify.verify(bearer(token())))
        assert caller.user_id == UUID(USER)
    assert server.asked == 1


def test_two_event_loops_do_not_wait_for_each_other(server):
    """A fetch belongs to the loop that began it: another loop's fetch cannot be awaited."""
    server.gate = threading.Event()
    monotonic = Clock(0.0)
    verify = by_url(server, monotonic)
    found: list[Caller] = []
    first = threading.Thread(target=lambda: found.append(asyncio.run(verify.verify(bearer(GOOD)))))
    first.start()
    while server.asked == 0:
        time.sleep(0)
    asyncio.run(refused(verify, bearer(GOOD), 503))
    gate, server.gate = server.gate, None
    monotonic.now = 1.0
    assert asyncio.run(verify.verify(bearer(GOOD))).user_id == UUID(USER)
    gate.set()
    first.join()
    assert [caller.user_id for caller in found] == [UUID(USER)]
