"""`tallybook attestation`: trying out what devices prove, without a device."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid4

import httpx
import typer

from tallybook.cli import project
from tallybook.cli.connection import UNUSABLE, DryRun, Json, fail, print_json
from tallybook.cli.tables import print_line
from tallybook.local import demo, fake_phone, fake_platforms, signing
from tallybook.local.fake_phone import WRONG, FakePhone, Platform, Step
from tallybook.local.fake_platforms import FakePlatforms
from tallybook.local.signing import LocalKeys

URL: Final = "http://127.0.0.1:54321"
TIMEOUT_SECONDS: Final = 20.0

app = typer.Typer(no_args_is_help=True, help="What devices prove.")


@app.callback()
def attestation() -> None:
    """What devices prove."""


@app.command("fake-device")
def fake_device(
    platform: Annotated[Literal["ios", "android"], typer.Option(help="Whose telephone.")] = "ios",
    wrong: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Go wrong in one thing. "
            + ". ".join(f"{name}: {', '.join(things)}" for name, things in WRONG.items())
            + ".",
            show_default=False,
        ),
    ] = None,
    classic: Annotated[
        bool, typer.Option("--classic", help="Android: a classic request instead of a standard.")
    ] = False,
    user: Annotated[UUID, typer.Option(help="Who is signed in.")] = demo.USER,
    event_type: Annotated[str, typer.Option(help="What happened.")] = "habit_completion",
    url: Annotated[str, typer.Option(help="Where the local stack is.")] = URL,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Play a telephone against a running `tallybook dev`: an event that a device vouches for.

    It is vouched for by the stand-ins for Apple and Google in the stack's own folder, which no
    other server believes.
    """
    if wrong is not None and wrong not in WRONG[platform]:
        fail(f"--wrong must be one of {', '.join(WRONG[platform])} for {platform}.", UNUSABLE)
    if classic and platform != "android":
        fail("--classic is for --platform android.", UNUSABLE)
    event = {
        "event_type": event_type,
        "event_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "nonce": f"fake-device-{uuid4()}",
        "device_id": f"fake-{platform}",
    }
    said: dict[str, Any] = {"platform": platform, "wrong": wrong, "user_id": user, "url": url}
    if dry_run:
        _say({**said, "event": event, "dry_run": True}, _intent(platform, user, url), json=json)
        return
    steps = _play(url, user, platform, wrong, classic, event, quiet=json)
    last = steps[-1]
    accepted = last.accepted and last.function == fake_phone.SUBMIT
    outcome = {
        **said,
        "accepted": accepted,
        "event_id": last.answer.get("id"),
        "code": last.answer.get("code"),
        "detail": last.answer.get("detail"),
        "steps": [_described(step) for step in steps],
    }
    words = f"Accepted: event {outcome['event_id']} is {last.answer.get('status')}."
    if not accepted:
        words = f"Refused: {outcome['code']}, {outcome['detail']}."
    _say(outcome, words, json=json)
    if not accepted:
        raise typer.Exit(1)


def _play(
    url: str,
    user: UUID,
    platform: Platform,
    wrong: str | None,
    classic: bool,
    event: dict[str, Any],
    *,
    quiet: bool,
) -> list[Step]:
    """The exchange with the stack whose keys lie here, told as it goes."""
    folder = project.local_folder()
    if not all((folder / name).exists() for name in (signing.FILE, *fake_platforms.FILES)):
        fail(f"There is no local stack in {folder}: start it with `make dev`.", UNUSABLE)
    token = LocalKeys.load_or_create(folder).token(user)
    steps = []
    try:
        with httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        ) as client:
            phone = FakePhone(
                client, FakePlatforms.load_or_create(folder), platform, wrong, classic
            )
            for step in phone.play(event):
                steps.append(step)
                if not quiet:
                    print_line(f"{step.status}  {step.function:<22} {_told(step)}")
    except (httpx.TransportError, httpx.InvalidURL):
        fail(f"Nothing answers at {url}: start the local stack with `make dev`.", UNUSABLE)
    return steps


def _told(step: Step) -> str:
    """What is worth knowing of an answer."""
    if not step.accepted:
        return f"{step.answer.get('code')}: {step.answer.get('detail')}"
    match step.function:
        case "attestation/challenge":
            return f"challenge {step.answer['challenge']}"
        case "attestation/register":
            return f"key {step.answer['key_id']} in {step.answer['environment']}"
    return f"event {step.answer['id']} is {step.answer['status']}"


def _described(step: Step) -> dict[str, Any]:
    """A step as it could be sent again: the body is as the device signed it, byte for byte."""
    return {
        "function": step.function,
        "headers": step.headers,
        "body": step.body.decode(),
        "status": step.status,
        "answer": step.answer,
    }


def _intent(platform: Platform, user: UUID, url: str) -> str:
    key = "register a key, " if platform == "ios" else ""
    return (
        f"Nothing done: it would {key}ask for a challenge and submit an event of {user} at {url}."
    )


def _say(outcome: dict[str, Any], words: str, *, json: bool) -> None:
    if json:
        print_json(outcome)
    else:
        print_line(words)
