"""A classic token is opened with our keys, in Google's algorithms, and in its one form."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tallybook.attestation.binding import base64url, base64url_decode
from tallybook.attestation.evidence import Rejected
from tallybook.attestation.play_token import TOKEN_LENGTH_MAX, ClassicKeys, open_token
from tallybook.local.fake_google import seal
from tests.attestation.play import GOOGLE, payload, rejected

KEYS = GOOGLE.classic_keys
SAID = payload(classic=True)
TOKEN = GOOGLE.classic_token(SAID)
OUTER = {"alg": "A256KW", "enc": "A256GCM"}


def refuses(reason: str, token: str) -> None:
    with rejected(reason):
        open_token(token, KEYS)


def test_a_good_token_is_opened():
    assert open_token(TOKEN, KEYS) == SAID


def test_the_keys_are_those_of_the_play_console():
    assert open_token(TOKEN, ClassicKeys.from_console(*GOOGLE.console_keys)) == SAID


def test_labels_in_a_header_change_nothing():
    labels = {"typ": "JWT", "kid": "1"}
    labelled = GOOGLE.classic_token(
        SAID, header=OUTER | labels, inner_header={"alg": "ES256"} | labels
    )
    assert open_token(labelled, KEYS) == SAID


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "dir", "enc": "A256GCM"},
        {"alg": "none", "enc": "A256GCM"},
        {"alg": "A128KW", "enc": "A256GCM"},
        {"alg": "RSA-OAEP", "enc": "A256GCM"},
        {"alg": "a256kw", "enc": "A256GCM"},
        {"alg": "A256KW", "enc": "A128GCM"},
        {"alg": "A256KW", "enc": "A256CBC-HS512"},
        {"alg": "A256KW"},
        {"enc": "A256GCM"},
        {"alg": ["A256KW"], "enc": "A256GCM"},
        {},
        OUTER | {"zip": "DEF"},
        OUTER | {"crit": ["exp"]},
        OUTER | {"crit": []},
        OUTER | {"jku": "https://attacker.example/keys"},
    ],
    ids=str,
)
def test_no_other_outer_header_is_read(header):
    # `{}` would be the good header to the kit, so every header is sealed here.
    refuses("token_algorithm", seal(b"a.b.c", header, GOOGLE.decryption_key))


@pytest.mark.parametrize(
    "inner",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "ES384"},
        {"alg": "es256"},
        {"typ": "JWT"},
        {"alg": "ES256", "crit": ["b64"], "b64": False},
        {"alg": "ES256", "b64": True},
        {"alg": "ES256", "zip": "DEF"},
        {"alg": "ES256", "jwk": {"kty": "EC"}},
    ],
    ids=str,
)
def test_no_other_signature_s_header_is_read(inner):
    refuses("token_algorithm", GOOGLE.classic_token(SAID, inner_header=inner))


def test_another_signature_is_refused():
    stranger = ec.generate_private_key(ec.SECP256R1())
    refuses("token_signature", GOOGLE.classic_token(SAID, signing_key=stranger))
    for signature in (b"", b"\0" * 64, b"\1" * 63, b"\1" * 65):
        refuses("token_signature", GOOGLE.classic_token(SAID, signature=signature))


def test_another_seal_is_refused():
    refuses("token_undecryptable", GOOGLE.classic_token(SAID, decryption_key=b"\0" * 32))


def test_a_header_that_was_not_sealed_with_the_rest_is_refused():
    """It reads the same, and is the additional data of the encryption."""
    spaced = base64url(b'{"alg": "A256KW", "enc": "A256GCM"}')
    refuses("token_undecryptable", ".".join([spaced, *TOKEN.split(".")[1:]]))


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "....",
        "no token",
        "é.é.é.é.é",
        TOKEN + ".",
        TOKEN + "\n",
        " " + TOKEN,
        TOKEN + "=",
        TOKEN.rpartition(".")[0],
        TOKEN.replace(".", ".A", 1),
        base64url(b"[]") + TOKEN[TOKEN.index(".") :],
        base64url(b"\xff") + TOKEN[TOKEN.index(".") :],
        base64url(b"[" * 20_000) + "....",
    ],
)
def test_what_is_no_token_is_malformed(token):
    refuses("malformed_token", token)


GOOD_START = base64url(b'{"alg":"ES256"}').encode()


@pytest.mark.parametrize(
    "signed",
    [b"", b"\xff", b"a", b"..", b"e30", b"\xff.e30.AA"]
    + [GOOD_START + rest for rest in (b"", b".", b".e30", b".e30.A", b".e30.AA.AA", b".\xff.AA")],
)
def test_what_is_sealed_and_no_signed_thing_is_malformed(signed):
    with pytest.raises(Rejected) as caught:
        open_token(seal(signed, OUTER, GOOGLE.decryption_key), KEYS)
    assert caught.value.reason in {"malformed_token", "token_algorithm"}


@pytest.mark.parametrize(
    "said", [b"", b"[]", b'"text"', b"{", b'{"a": "\xff"}', b'{"\xff": 1}', b'{"a":' + b"[" * 9_000]
)
def test_what_is_signed_and_no_object_is_malformed(said):
    refuses("malformed_payload", GOOGLE.classic_token(said))


def test_a_token_has_a_size():
    refuses("token_too_large", "A" * (TOKEN_LENGTH_MAX + 1))
    refuses("malformed_token", "A" * TOKEN_LENGTH_MAX)


def test_a_part_has_the_length_that_its_algorithm_makes():
    parts = TOKEN.split(".")
    for index, length in ((1, 39), (1, 0), (1, 48), (2, 8), (2, 0), (2, 16), (4, 12), (4, 4)):
        changed = list(parts)
        changed[index] = base64url(b"\1" * length)
        refuses("malformed_token", ".".join(changed))


def test_a_token_has_one_form():
    """Else each token that was seen could be sent again as one that was not."""
    parts = TOKEN.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    tried = 0
    for index, part in enumerate(parts):
        for last in alphabet:
            form = part[:-1] + last
            same = base64.urlsafe_b64decode(form + "==") == base64.urlsafe_b64decode(part + "==")
            if same and form != part:
                refuses("malformed_token", ".".join([*parts[:index], form, *parts[index + 1 :]]))
                tried += 1
    assert tried >= 15


def test_no_flipped_bit_is_accepted():
    sealed = TOKEN.encode()
    for position in range(len(sealed)):
        for bit in (1, 2, 32):
            changed = bytearray(sealed)
            changed[position] ^= bit
            with pytest.raises(Rejected):
                open_token(changed.decode("latin-1"), KEYS)


@given(st.text() | st.lists(st.binary().map(base64url), max_size=6).map(".".join))
def test_nothing_arbitrary_is_opened_or_breaks_it(token):
    with pytest.raises(Rejected):
        open_token(token, KEYS)


@given(st.binary() | st.lists(st.binary().map(base64url), max_size=4).map(".".join).map(str.encode))
def test_nothing_arbitrary_that_is_sealed_is_accepted_or_breaks_it(signed):
    with pytest.raises(Rejected):
        open_token(seal(signed, OUTER, GOOGLE.decryption_key), KEYS)


@given(st.binary())
def test_each_sequence_of_bytes_has_one_text(data):
    assert base64url_decode(base64url(data)) == data


def test_a_text_that_base64url_does_not_make_is_refused():
    for text in ("A", "AB", "AA=", "AA==", "A+", "A/", "A A", "ÄA", "\ud800A", "AAAAA"):
        with pytest.raises(ValueError):
            base64url_decode(text)


def console(key: Any) -> str:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def test_keys_that_are_none_are_refused_without_repeating_them():
    secret, public = GOOGLE.console_keys
    for decryption_key, verification_key in (
        ("", public),
        (secret[:-4], public),
        (base64.b64encode(b"k" * 16).decode(), public),
        (f"*{secret}", public),
        (secret, ""),
        (secret, secret),
        (secret, console(ec.generate_private_key(ec.SECP384R1()))),
        (secret, console(rsa.generate_private_key(65537, 2048))),
    ):
        with pytest.raises(ValueError) as caught:
            ClassicKeys.from_console(decryption_key, verification_key)
        assert secret[:-4] not in str(caught.value)
    assert str(GOOGLE.decryption_key) not in repr(KEYS)
