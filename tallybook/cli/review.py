"""`tallybook review`: the events that wait for a person, and what people decide about them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from tallybook.cli.connection import DatabaseUrl, Json, print_json
from tallybook.cli.operator import reading
from tallybook.cli.review_decision import EventArgument, approve, label_event, reject
from tallybook.cli.review_insight import insights, precision, resolve
from tallybook.cli.tables import print_fields, print_line, written

app = typer.Typer(no_args_is_help=True, help="What waits for a person's decision.")


class Waiting(StrEnum):
    """Why an event waits."""

    PENDING_REVIEW = "pending_review"
    FLAGGED = "flagged"


# Ids are ordered by time, and the index of what is unfinished has them by status.
_WAITING: Final = """
select e.id as event_id, e.user_id, e.event_type, e.event_time, e.points_delta as points,
       e.trust_score, e.validation_status as status, e.validation_notes as notes,
       e.validated_by as awarded_by, coalesce(a.hits, '[]') as hits
  from public.points_events as e
  left join public.trust_assessments as a on a.event_id = e.id and a.user_id = e.user_id
 where e.validation_status = any (%s) and e.transfer_id is null
   and e.validation_status <> 'rejected'
 order by e.id
 limit %s
"""

# Looked for where events are found by their id alone, and in the last resort everywhere.
_EVENT: Final = """
with owner as (
  select coalesce(
    (select e.user_id from public.points_events as e
      where e.validation_status in ('pending_review', 'flagged', 'pending', 'validating')
        and e.transfer_id is null and e.id = %(event)s limit 1),
    (select r.user_id from public.points_reviews as r where r.event_id = %(event)s),
    (select a.user_id from public.trust_assessments as a where a.event_id = %(event)s limit 1),
    (select e.user_id from public.points_events as e where e.id = %(event)s)) as user_id
)
select e.id as event_id, e.user_id, e.event_type, e.event_time, e.created_at,
       e.points_delta as points,
       e.validation_status as status, e.trust_score, e.validated_at, e.validated_by,
       e.validation_notes as notes, e.streak_days, e.proof_type, e.proof_payload,
       e.related_entity_type, e.related_entity_id, e.device_id, e.device_info, e.ip_address,
       e.request_id, a.verdict, a.features, coalesce(a.hits, '[]') as hits,
       (select to_jsonb(r) - 'event_id' - 'user_id' from public.points_reviews as r
         where r.event_id = e.id) as review,
       (select coalesce(jsonb_agg(to_jsonb(n) - 'event_id' - 'user_id' order by n.note_id), '[]')
          from public.points_review_notes as n where n.event_id = e.id) as review_notes,
       (select coalesce(jsonb_agg(f.insight_id order by f.created_at), '[]')
          from public.fraud_insights as f
         where f.user_id = e.user_id and e.id = any (f.related_event_ids)) as insights
  from owner as o
  join public.points_events as e on e.user_id = o.user_id and e.id = %(event)s
  left join public.trust_assessments as a on a.event_id = e.id and a.user_id = e.user_id
"""


@app.command("list")
def list_waiting(
    status: Annotated[Waiting | None, typer.Option(show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show what waits, the oldest first, with the rules that hit it."""
    wanted = [status] if status else list(Waiting)
    with reading(database, json=json) as operator:
        events = operator.rows(_WAITING, ([str(one) for one in wanted], limit))
    if json:
        print_json({"events": events})
        return
    for event in events:
        print_line(
            f"{event['event_id']}  {event['event_type']}  {event['points']:+d} points"
            f"  trust {written(event['trust_score'])}  {event['status']}"
        )
        print_line(f"  user {event['user_id']}  at {written(event['event_time'])}")
        if event["notes"]:
            by = f"{event['awarded_by']}: " if event["awarded_by"] else ""
            print_line(f"  {by}{event['notes']}")
        _print_hits(event["hits"])
    if not events:
        print_line("Nothing waits.")


@app.command("show")
def show_event(event: EventArgument, database: DatabaseUrl = None, json: Json = False) -> None:
    """Show all there is to know of one event."""
    with reading(database, json=json) as operator:
        found = operator.row(
            _EVENT, {"event": event}, missing=("event_not_found", f"event_id: {event}")
        )
    if json:
        print_json(found)
        return
    apart = ("hits", "review", "review_notes", "insights")
    print_fields({name: value for name, value in found.items() if name not in apart})
    _print_hits(found["hits"])
    if review := found["review"]:
        print_line(f"{review['decision']} by {review['reviewed_by']}: {review['reason']}")
    for note in found["review_notes"]:
        said = " ".join(filter(None, (note["label"], note["note"])))
        print_line(f"{note['author']} noted: {said}")
    for insight in found["insights"]:
        print_line(f"insight {insight}")


app.command()(approve)
app.command()(reject)
app.command("label")(label_event)
app.command()(insights)
app.command()(resolve)
app.command()(precision)


def _print_hits(hits: list[dict[str, Any]]) -> None:
    for hit in hits:
        bounds = [
            f"{words} {hit[name]}"
            for name, words in (("below", "below"), ("at_least", "at least"))
            if name in hit
        ]
        shadow = " (in the shadow: not counted)" if hit["mode"] == "shadow" else ""
        print_line(
            f"  {hit['weight']:+4d}  {hit['rule']}: saw {written(hit['observed'])},"
            f" hits {' and '.join(bounds)}{shadow}"
        )
