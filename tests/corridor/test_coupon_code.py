"""Codes: how random, how readable, what the check character catches, what rotation keeps."""

from __future__ import annotations

import itertools
import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.coupon_code import (
    ALPHABET,
    CouponKeys,
    check_character,
    new_code,
    normalise,
    redemption_context,
    written,
)
from tallybook.settings import ConfigurationError, Settings

SECRET, OLDER = "a" * 32, "b" * 40
DATA = st.text(ALPHABET, min_size=16, max_size=16)


@pytest.fixture(scope="module")
def keys() -> CouponKeys:
    return CouponKeys(SECRET)


def is_code(text: str) -> bool:
    try:
        normalise(text)
    except ValueError:
        return False
    return True


def test_a_new_code_is_well_formed():
    for _ in range(1_000):
        code = new_code()
        assert re.fullmatch(r"(?:[0-9A-HJKMNP-TV-Z]{4}-){4}[0-9A-HJKMNP-TV-Z]", code)
        assert written(normalise(code)) == code


def test_every_place_takes_every_character():
    codes = [new_code().replace("-", "") for _ in range(2_000)]
    assert len(set(codes)) == len(codes)
    for place in range(17):
        assert {code[place] for code in codes} == set(ALPHABET)


def test_the_alphabet_has_no_look_alikes():
    assert len(set(ALPHABET)) == 32
    assert not set(ALPHABET) & set("ILOU")


@given(DATA)
def test_a_code_reads_as_people_type_it(data):
    plain = data + check_character(data)
    for typed in (
        plain,
        plain.lower(),
        written(plain),
        f"  {written(plain)}\n",
        written(plain).replace("-", " \u2013\u00a0"),
        plain.replace("0", "O").replace("1", "I"),
        plain.replace("0", "o").replace("1", "l"),
    ):
        assert normalise(typed) == plain


@pytest.mark.parametrize(
    "typed", ["", "-", "0" * 16, "0" * 18, "U" * 17, "\u0131" * 17, "0" * 16 + "é"]
)
def test_what_cannot_be_a_code_is_refused(typed):
    with pytest.raises(ValueError):
        normalise(typed)


def test_endless_text_is_refused():
    with pytest.raises(ValueError):
        normalise("-" * 1_000_000 + "0" * 17)


def test_one_wrong_character_is_always_caught():
    """Exhaustive: every place, every right character, every wrong one. The sum is linear, so
    the other fifteen characters do not matter; two backgrounds are tried all the same."""
    for background in ("0" * 16, "7H3K9QZ0M4XV2B8D"):
        for place, right in itertools.product(range(17), ALPHABET):
            if place < 16:
                data = background[:place] + right + background[place + 1 :]
                plain = data + check_character(data)
            else:
                plain = background + check_character(background)
            for wrong in ALPHABET:
                if wrong != plain[place]:
                    assert not is_code(plain[:place] + wrong + plain[place + 1 :])


def test_two_exchanged_characters_are_always_caught():
    """Exhaustive: every two places (neighbours or not, the check too), every two characters."""
    for first, second in itertools.combinations(range(16), 2):
        for one, other in itertools.combinations(ALPHABET, 2):
            data = list("7H3K9QZ0M4XV2B8D")
            data[first], data[second] = one, other
            plain = [*data, check_character("".join(data))]
            plain[first], plain[second] = other, one
            assert check_character("".join(plain[:16])) != plain[16]
    for first, one in itertools.product(range(16), ALPHABET):
        for background in ("0" * 16, "7H3K9QZ0M4XV2B8D", "ZZZZ9999AAAA0000"):
            text = background[:first] + one + background[first + 1 :]
            plain = [*text, check_character(text)]
            if plain[first] != plain[16]:
                plain[first], plain[16] = plain[16], plain[first]
                assert not is_code("".join(plain))


def test_a_doubled_character_that_became_another_is_always_caught():
    for place in range(15):
        for one, other in itertools.permutations(ALPHABET, 2):
            data = "7H3K9QZ0M4XV2B8D"
            data = data[:place] + one * 2 + data[place + 2 :]
            changed = data[:place] + other * 2 + data[place + 2 :]
            assert check_character(changed) != check_character(data)


def test_a_random_text_passes_once_in_32():
    """All pairs of wrong characters in two places: exactly 31 of 31 x 31 go unnoticed."""
    data = "7H3K9QZ0M4XV2B8D"
    check = check_character(data)
    unnoticed = sum(
        check_character(one + other + data[2:]) == check
        for one in ALPHABET
        for other in ALPHABET
        if one != data[0] and other != data[1]
    )
    assert unnoticed == 31


def test_a_hash_does_not_depend_on_how_the_code_was_typed(keys):
    code = new_code()
    hashed = keys.hash_code(code)
    assert re.fullmatch(r"[0-9a-f]{64}", hashed)
    assert keys.hash_code(code.lower().replace("-", " ")) == hashed
    assert keys.hash_code(new_code()) != hashed
    assert CouponKeys(OLDER).hash_code(code) != hashed


def test_a_hash_is_stable_across_releases(keys):
    """Stored hashes must be found for ever: change this and every coupon is lost."""
    code = "0123-4567-89AB-CDEF-" + check_character("0123456789ABCDEF")
    assert keys.key_id == "1168323f"
    assert (
        keys.hash_code(code) == "b5c464b283d3f969fc1b49fb5cd9b1031e6b043b78f36237bfc43b9f75da3df9"
    )


def test_a_code_of_any_age_is_looked_for_as_it_was_typed():
    before, after = CouponKeys(OLDER), CouponKeys(SECRET, [OLDER])
    code = new_code()
    typed = after.hashes_of_typed(code.lower().replace("-", " "))
    assert typed == [after.hash_code(code), before.hash_code(code)]


@pytest.mark.parametrize("typed", ["", "hello", "0" * 16 + "1", "0" * 200, "\u0131" * 17])
def test_what_cannot_be_a_code_is_looked_for_all_the_same_and_is_nobody_s(typed):
    keys = CouponKeys(SECRET, [OLDER])
    found = keys.hashes_of_typed(typed)
    assert len(set(found)) == len(found) == 2
    assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in found)
    assert found != keys.hashes_of_typed(typed + "x")
    # Not even a code that is made of the same characters has such a hash.
    assert keys.hash_code("0" * 17) not in keys.hashes_of_typed("0" * 18)


def test_a_sealed_copy_opens_in_its_own_context_only(keys):
    code = new_code()
    sealed = keys.seal(code, "user:key")
    assert re.fullmatch(r"[A-Za-z0-9_-]+", sealed)
    assert code not in sealed and sealed != keys.seal(code, "user:key")
    assert keys.open(sealed, "user:key") == code
    for context in ("", "user:kez", "other:key"):
        with pytest.raises(ValueError):
            keys.open(sealed, context)


def test_every_altered_byte_of_a_sealed_copy_shows(keys):
    sealed = keys.seal(new_code(), "c")
    for place in range(len(sealed) - 1):
        altered = "A" if sealed[place] != "A" else "B"
        with pytest.raises(ValueError):
            keys.open(sealed[:place] + altered + sealed[place + 1 :], "c")
    for broken in ("", "AAAA", sealed[:-4], sealed + "AAAA", "é" * 20):
        with pytest.raises(ValueError):
            keys.open(broken, "c")


def test_a_rotated_secret_still_finds_and_opens_what_it_made():
    before, after = CouponKeys(OLDER), CouponKeys(SECRET, [OLDER, SECRET])
    code = new_code()
    assert after.key_id != before.key_id
    assert after.open(before.seal(code, "c"), "c") == code
    hashes = after.hashes(code)
    assert list(hashes) == [after.key_id, before.key_id]
    assert hashes[before.key_id] == before.hash_code(code)
    assert hashes[after.key_id] == after.hash_code(code)
    with pytest.raises(ValueError):
        before.open(after.seal(code, "c"), "c")


def test_contexts_are_distinct(keys):
    one, other = UUID(int=1), UUID(int=2)
    assert redemption_context(one, "k") != redemption_context(other, "k")
    assert redemption_context(one, "k") != redemption_context(one, "k:")


def test_nothing_of_a_key_shows(keys):
    assert SECRET not in repr(vars(keys)) and "hashing" not in repr(vars(keys))


def test_without_a_secret_it_does_not_start():
    with pytest.raises(ConfigurationError):
        CouponKeys.from_settings(Settings())
    settings = Settings(coupon_secret=SECRET, coupon_secrets_previous=(OLDER,))
    assert CouponKeys.from_settings(settings).key_id == CouponKeys(SECRET).key_id
