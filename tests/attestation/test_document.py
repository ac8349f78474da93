"""docs/attestation.md says what the sources say: it misses no reason, status, setting or header."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallybook.attestation import examiner
from tallybook.attestation.evidence import Status
from tallybook.schema import ROOT
from tallybook.settings import Settings
from tests.attestation import document

SOURCES = sorted((ROOT / "tallybook/attestation").glob("*.py"))
ROOM = ROOT / "sql/15_attestation"
RAISED = {"Rejected": 0, "Unavailable": 0, "Fleeting": 0}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a name or a method in a piece of source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id, node
            elif isinstance(node.func, ast.Attribute):
                yield node.func.attr, node


def relays(tree: ast.AST) -> dict[str, int]:
    """The functions that raise a reason which they are given, and its place among the arguments."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args]
            for name, call in calls(node):
                match call.args[:1]:
                    case [ast.Name(id=given)] if name in RAISED and given in names:
                        found[node.name] = names.index(given)
    return found


def reasons(path: Path) -> Iterator[tuple[str, str]]:
    """What raises, and for which reason: each is written out, so that somebody can look for it."""
    tree = ast.parse(path.read_text())
    relayed = relays(tree)
    for name, call in calls(tree):
        place = (RAISED | relayed).get(name)
        if place is None:
            continue
        match call.args[place]:
            case ast.Constant(value=str(reason)):
                yield name, reason
            case ast.Name(id=given):
                assert name in RAISED, f"{path.name}: {name} is given no reason"
                assert given in {"reason"}, f"{path.name}: {name} is given no reason"
            case other:
                pytest.fail(f"{path.name}: {ast.unparse(other)} is no reason")


def unavailable() -> set[str]:
    return {
        reason
        for path in SOURCES
        for name, reason in reasons(path)
        if name in {"Unavailable", "Fleeting"}
    }


def refused() -> set[str]:
    """Of the verifiers, and of the procedures that settle what they found."""
    settled = {
        reason
        for name in ("settle_attestations", "register_device_key")
        for reason in re.findall(r"\bthen '(\w+)'", (ROOM / f"{name}.sql").read_text())
    }
    assert settled >= {"challenge_not_valid", "counter_not_greater", "key_taken"}
    verified = {reason for path in SOURCES for _, reason in reasons(path)} - unavailable()
    assert verified >= {"wrong_key_id", "wrong_request_hash", "malformed_assertion"}
    return settled | verified


def alerts() -> set[str]:
    """What an alert gives for its reason; `ours` are those of Google's answers."""
    found = set()
    for path in SOURCES:
        for name, call in calls(ast.parse(path.read_text())):
            said = {keyword.arg: keyword.value for keyword in call.keywords}
            match call.args, said.get("reason"):
                case [ast.Constant(value=str(reason)), *_], _ if name == "_alert":
                    found.add(reason)
                case [_, ast.Constant("error"), *_], ast.Constant(value=str(reason)):
                    found.add(reason)
                case [ast.Constant(value=str(reason))], _ if "ours" in said:
                    found.add(reason)
    return found


def test_every_reason_is_documented_and_every_documented_reason_is_one() -> None:
    documented = document.names("Reasons")
    assert len(documented) == len(set(documented))
    assert set(documented) == refused() | unavailable()


def test_what_is_refused_and_what_is_unavailable_are_kept_apart() -> None:
    _, _, later = document.section("Reasons").partition("Unavailable, and checked again:")
    assert set(re.findall(r"^\| `(\w+)`", later, re.MULTILINE)) == unavailable()


def test_what_is_ours_is_marked_and_is_an_alert() -> None:
    ours = {reason for reason, what in document.rows("Reasons") if "**ours**" in what}
    assert ours == {"credentials_refused", "decode_refused"}
    assert set(document.names("Watch it")) == alerts()
    assert alerts() >= ours


def test_every_status_is_documented() -> None:
    assert document.names("What comes of it") == [str(status) for status in Status]


def test_every_setting_is_documented() -> None:
    variables = {
        name
        for field in dataclasses.fields(Settings)
        for name in field.metadata["variable"].names
        if name.startswith(("APP_ATTEST_", "PLAY_INTEGRITY_"))
    }
    assert set(document.names("Settings")) == variables


def test_every_header_is_documented_and_sent_by_the_examples() -> None:
    headers = {
        examiner.CHALLENGE_HEADER,
        examiner.KEY_HEADER,
        examiner.TOKEN_HEADER,
        examiner.UNSUPPORTED_HEADER,
    }
    assert set(document.names("Send an event")) == headers
    sent = {
        language: set(re.findall(r'"(x-attestation-\w+)"', document.code(language)))
        for language in ("swift", "kotlin")
    }
    assert sent == {"swift": headers, "kotlin": headers - {examiner.KEY_HEADER}}


@pytest.mark.parametrize("language", ["swift", "kotlin"])
def test_the_examples_hash_the_documented_words_in_their_order(language: str) -> None:
    words = ["tallybook/v1", "POST", "/functions/v1/submit-points-event"]
    text = document.code(language)
    places = [text.index(f'"{word}"') for word in words]
    assert places == sorted(places)
    assert "attestation/challenge" in text


def test_the_page_leads_to_places_that_are_there() -> None:
    headings = re.findall(r"^#+ (.*)$", document.TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", document.TEXT)) <= anchors
