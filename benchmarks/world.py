"""Users with points, something to buy, and events that wait to be judged."""

from __future__ import annotations

from typing import Any

import psycopg

BALANCE = 1_000_000_000
"""Nobody runs out of points in a benchmark."""

TEMPLATE_ID = "7e0e1a70-0000-4000-8000-000000000001"

CREDITS = 1_000_000

USER_ID = "md5('user ' || {})::uuid"
"""User number n, in SQL: ids lie scattered over the index, as real ones do."""

BATCH = 2_000


def populate(connection: psycopg.Connection[Any], users: int) -> None:
    """Give every user a balance, in the book and in the yardstick, and offer one coupon."""
    user_id = USER_ID.format("n")
    # Nobody works as hard as a load generator: the limits are counted, and let everything through.
    connection.execute(
        "update public.points_programs set events_per_hour_max = null, events_per_day_max = null,"
        " points_per_hour_max = null, points_per_day_max = null"
    )
    connection.execute(
        "insert into public.coupon_templates (template_id, template_name, points_cost,"
        " coupon_value_type, coupon_value, max_redemptions_per_user)"
        f" values ('{TEMPLATE_ID}', 'Measured', 1, 'fixed_amount', '5', null)"
    )
    connection.execute(
        "insert into public.points_events (user_id, event_type, event_time, points_delta,"
        " proof_type, validation_status, validated_by)"
        f" select {user_id}, 'admin_award', now(), {BALANCE}, 'manual_admin', 'validated', 'bench'"
        f"   from generate_series(1, {users}) as n"
    )
    connection.execute(
        f"select public.refresh_user_points_cache({user_id}) from generate_series(1, {users}) as n"
    )
    connection.execute(
        "insert into yardstick.balances (user_id, points)"
        f" select {user_id}, {BALANCE} from generate_series(1, {users}) as n"
    )
    # A pair of accounts with a floor each, as the yardstick's ledger has: posting moves both.
    connection.execute(
        "insert into ledger.chart_of_accounts (account, asset, floor, meaning) values"
        " ('bench.left', 'points', 0, 'measured'), ('bench.right', 'points', 0, 'measured'),"
        " ('bench.source', 'points', null, 'measured')"
    )


def give_credits(dsn: str, users: int) -> None:
    """Give every user more credits than they will use, here and in the yardstick."""
    with psycopg.connect(dsn) as connection:
        for first in range(1, users + 1, BATCH):
            numbers = f"generate_series({first}, {min(first + BATCH - 1, users)}) as n"
            connection.execute(
                f"select internal.lock_credits(array(select {USER_ID.format('n')} from {numbers}))"
            )
            connection.execute(
                "select count(*) from internal.move_credits(array(select internal.credit_move("
                f"{USER_ID.format('n')}, {CREDITS}, 'bonus') from {numbers}))"
            )
        connection.execute(
            "insert into yardstick.credits (user_id, balance)"
            f" select {USER_ID.format('n')}, {CREDITS} from generate_series(1, {users}) as n"
        )


def user_ids(connection: psycopg.Connection[Any], users: int) -> list[str]:
    """The ids of users 1 to `users`."""
    user_id = USER_ID.format("n")
    cursor = connection.execute(f"select {user_id} from generate_series(1, {users}) as n")
    return [str(row[0]) for row in cursor.fetchall()]


def fill_queue(connection: psycopg.Connection[Any], users: int, events: int) -> None:
    """Submit `events` events through the procedure, and put the same into the yardstick's queue.

    One user's events lie a minute and more apart, so that none is suspicious.
    """
    per_user = -(-events // users)
    for round_ in range(per_user):
        for first in range(1, users + 1, BATCH):
            last = min(first + BATCH - 1, users)
            connection.execute(
                "select count(*) from internal.submit_points_event_batch((select jsonb_agg("
                f" jsonb_build_object('user_id', {USER_ID.format('n')}, 'event_type', 'workout',"
                f"   'event_time', now() - {round_ + 1} * interval '61 seconds',"
                f"   'nonce', 'queued {round_}'))"
                f" from generate_series({first}, {last}) as n))"
            )
    connection.execute(
        "insert into yardstick.queue (user_id, event_type, event_time, nonce, points)"
        " select e.user_id, e.event_type, e.event_time, e.nonce, e.points_delta"
        "   from public.points_events as e where e.validation_status = 'pending' order by e.id"
    )
    connection.commit()
