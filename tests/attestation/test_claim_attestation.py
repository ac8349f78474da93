"""Google is asked about a token once, by one at a time, and no more often than it allows."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.attestation.devices import Devices, a_hash
from tests.world import NOW, Connection, World

BUDGET = 10
VERDICT = {"requestDetails": {"requestHash": "x"}, "tokens": [1, 2]}
BUSY, SPENT = {"state": "busy"}, {"state": "spent"}


def claim(
    world: World,
    token: str | None = None,
    budget: int = BUDGET,
    through: Connection | None = None,
) -> Any:
    """Ask for leave to decode a token, by default one that nobody has seen."""
    said = {"user_id": None, "token_hash": token or a_hash(), "budget": budget}
    answer = world.call("public.claim_attestation", said, through or world.functions)
    answer.pop("until", None)
    return answer


def record(
    world: World,
    token: str,
    is_valid: bool | None = None,
    verdict: dict[str, Any] | None = None,
    through: Connection | None = None,
) -> Any:
    rows = world.rows(
        "select claimed_until from attestation_cache where attestation_token_hash = %s", (token,)
    )
    until = rows[0]["claimed_until"] if rows else None
    said = {"token_hash": token, "until": until, "is_valid": is_valid, "verdict": verdict}
    answer = world.call("public.record_attestation", said, through or world.functions)
    return answer["recorded"]


def claimed(decodes: int, *, alert: bool = False) -> dict[str, Any]:
    return {"state": "claimed", "decodes": decodes, "alert": alert}


def decodes(world: World) -> dict[str, int]:
    rows = world.rows("select day::text, decodes from attestation_decodes order by day")
    return {row["day"]: row["decodes"] for row in rows}


def test_who_claims_it_asks_and_the_others_are_told(world: World, devices: Devices) -> None:
    token = a_hash()
    assert claim(world, token) == claimed(1)
    assert claim(world, token) == BUSY
    assert record(world, token, True, VERDICT)
    known = {"state": "known", "is_valid": True, "verdict": VERDICT}
    assert claim(world, token) == claim(world, token) == known
    assert decodes(world) == {"2026-03-02": 1}
    (row,) = world.rows("select * from attestation_cache")
    devices.wait(hours=1)
    assert (row["created_at"], row["expires_at"]) == (NOW, world.now())
    assert (row["platform"], row["claimed_until"]) == ("android", None)


def test_nobody_has_google_asked_without_an_open_challenge(world: World, devices: Devices) -> None:
    """The day's budget is everybody's: no single user uses it up with rubbish."""
    user, other = world.user(), world.user()
    challenge = devices.challenge(user, platform="android")

    def ask(**said: Any) -> Any:
        asked = {
            "user_id": user,
            "token_hash": a_hash(),
            "budget": BUDGET,
            "challenge_hash": challenge,
            "request_hash": a_hash(),
        }
        return world.call("public.claim_attestation", {**asked, **said}, world.functions)["state"]

    apple = devices.challenge(user, platform="ios")
    for said in ({"challenge_hash": a_hash()}, {"user_id": other}, {"challenge_hash": apple}):
        assert ask(**said) == "challenge"
    assert ask() == "claimed"
    assert decodes(world) == {"2026-03-02": 1}
    devices.wait(minutes=5)
    assert ask() == "challenge"


def test_whom_twenty_were_refused_is_not_heard_for_the_hour(world: World, devices: Devices) -> None:
    user = world.user()
    for _ in range(20):
        devices.submit(
            user, {"status": "failed", "reason": "token_signature", "platform": "android"}
        )

    def ask() -> Any:
        asked = {
            "user_id": user,
            "token_hash": a_hash(),
            "budget": BUDGET,
            "challenge_hash": devices.challenge(user, platform="android"),
            "request_hash": a_hash(),
        }
        return world.call("public.claim_attestation", asked, world.functions)["state"]

    assert ask() == "failing"
    assert decodes(world) == {}
    devices.wait(hours=2)
    assert ask() == "claimed"


def test_a_lapsed_claim_ends_no_later_one(world: World, devices: Devices) -> None:
    token = a_hash()
    said = {"user_id": None, "token_hash": token, "budget": BUDGET}
    first = world.call("public.claim_attestation", said, world.functions)
    devices.wait(seconds=11)
    assert claim(world, token)["state"] == "claimed"
    late = {"token_hash": token, "until": first["until"]}
    assert world.call("public.record_attestation", late, world.functions) == {"recorded": False}
    assert claim(world, token) == BUSY


def test_a_token_that_is_none_is_known_to_be_none(world: World, devices: Devices) -> None:
    token = a_hash()
    claim(world, token)
    record(world, token, False)
    assert claim(world, token) == {"state": "known", "is_valid": False, "verdict": None}
    assert decodes(world) == {"2026-03-02": 1}


def test_the_first_verdict_stays(world: World, devices: Devices) -> None:
    """A second look spoils what Google says."""
    token = a_hash()
    claim(world, token)
    assert record(world, token, True, VERDICT)
    assert not record(world, token, False)
    assert not record(world, token, True, {"another": "verdict"})
    assert not record(world, token)
    assert claim(world, token) == {"state": "known", "is_valid": True, "verdict": VERDICT}


def test_nothing_is_recorded_of_a_token_that_nobody_claimed(world: World, devices: Devices) -> None:
    assert not record(world, a_hash(), True, VERDICT)
    assert world.count("attestation_cache") == 0


def test_who_had_no_answer_lets_the_next_ask_at_once(world: World, devices: Devices) -> None:
    token = a_hash()
    claim(world, token)
    assert record(world, token)
    assert claim(world, token) == claimed(2)
    assert claim(world, token) == BUSY


def test_who_died_over_it_keeps_it_for_ten_seconds(world: World, devices: Devices) -> None:
    token = a_hash()
    claim(world, token)
    devices.wait(seconds=10, microseconds=-1)
    assert claim(world, token) == BUSY
    devices.wait(microseconds=1)
    assert claim(world, token) == claimed(2)
    assert claim(world, token) == BUSY
    # The first was slow and not dead; what Google said is true all the same.
    assert record(world, token, True, VERDICT)
    assert claim(world, token)["state"] == "known"


def test_what_is_known_is_forgotten_with_its_hour(world: World, devices: Devices) -> None:
    token = a_hash()
    claim(world, token)
    record(world, token, True, VERDICT)
    devices.wait(hours=1)
    devices.clean()
    assert claim(world, token) == claimed(2)


@pytest.mark.parametrize(
    ("budget", "alerted"), [(10, 8), (5, 4), (4, 4), (3, 3), (2, 2), (1, 1), (7, 6)]
)
def test_a_day_has_its_budget_and_one_alert(
    world: World, devices: Devices, budget: int, alerted: int
) -> None:
    answers = [claim(world, budget=budget) for _ in range(budget + 3)]
    assert answers == [
        *(claimed(n, alert=n == alerted) for n in range(1, budget + 1)),
        SPENT,
        SPENT,
        SPENT,
    ]
    assert decodes(world) == {"2026-03-02": budget}


def test_no_budget_is_spent_from_the_beginning(world: World, devices: Devices) -> None:
    assert claim(world, budget=0) == SPENT
    assert decodes(world) == {}


def test_the_next_day_begins_at_midnight_utc(world: World, devices: Devices) -> None:
    token = a_hash()
    world.functions.execute("set timezone = 'Pacific/Kiritimati'")
    assert [claim(world, budget=1) for _ in range(2)] == [claimed(1, alert=True), SPENT]
    assert claim(world, token, budget=1) == SPENT
    devices.wait(hours=15, microseconds=-1)
    assert claim(world, token, budget=1) == SPENT
    devices.wait(microseconds=1)
    assert claim(world, token, budget=1) == claimed(1, alert=True)
    assert decodes(world) == {"2026-03-02": 1, "2026-03-03": 1}


def test_what_is_known_costs_nothing_when_the_budget_is_spent(
    world: World, devices: Devices
) -> None:
    token = a_hash()
    claim(world, token, budget=1)
    assert claim(world, token, budget=1) == BUSY
    record(world, token, True, VERDICT)
    assert claim(world, budget=1) == SPENT
    assert claim(world, token, budget=1)["state"] == "known"


def test_of_sixteen_with_one_token_one_asks(world: World, devices: Devices) -> None:
    token = a_hash()
    answers = world.at_once([lambda s: claim(world, token, through=s)] * 16)
    assert sorted(answer["state"] for answer in answers) == ["busy"] * 15 + ["claimed"]
    assert decodes(world) == {"2026-03-02": 1}


def test_of_sixteen_after_one_who_had_no_answer_one_asks(world: World, devices: Devices) -> None:
    token = a_hash()
    claim(world, token)
    record(world, token)
    answers = world.at_once([lambda s: claim(world, token, through=s)] * 16)
    assert sorted(answer["state"] for answer in answers) == ["busy"] * 15 + ["claimed"]
    assert decodes(world) == {"2026-03-02": 2}


def test_who_waited_for_a_verdict_is_told(world: World, devices: Devices) -> None:
    token = a_hash()
    claim(world, token)
    first = world.session("tallybook_worker", autocommit=False)
    record(world, token, True, VERDICT, first)
    with world.in_background(
        lambda s: claim(world, token, through=s), world.session("tallybook_functions")
    ) as second:
        first.commit()
    assert second.result() == {"state": "known", "is_valid": True, "verdict": VERDICT}


def test_sixteen_tokens_share_what_is_left_of_the_day_and_one_is_alerted(
    world: World, devices: Devices
) -> None:
    answers = world.at_once([lambda s: claim(world, through=s)] * 16)
    states = sorted(answer["state"] for answer in answers)
    assert states == ["claimed"] * 10 + ["spent"] * 6
    won = [answer for answer in answers if answer["state"] == "claimed"]
    assert sorted(answer["decodes"] for answer in won) == list(range(1, 11))
    assert [answer["decodes"] for answer in won if answer["alert"]] == [8]
    assert decodes(world) == {"2026-03-02": 10}


@pytest.mark.parametrize("verdicts", [(True, False), (False, True)])
def test_of_two_verdicts_at_once_one_stays(
    world: World, devices: Devices, verdicts: tuple[bool, bool]
) -> None:
    token = a_hash()
    claim(world, token)
    first = world.session("tallybook_functions", autocommit=False)
    assert record(world, token, verdicts[0], through=first)
    with world.in_background(
        lambda s: record(world, token, verdicts[1], through=s),
        world.session("tallybook_functions"),
    ) as second:
        first.commit()
    assert second.result() is False
    assert claim(world, token)["is_valid"] is verdicts[0]


def test_the_functions_and_the_worker_ask_and_nobody_else(world: World, devices: Devices) -> None:
    assert claim(world, through=world.worker)["state"] == "claimed"
    for call in (claim, lambda w, through: record(w, a_hash(), through=through)):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            call(world, through=world.operator)
