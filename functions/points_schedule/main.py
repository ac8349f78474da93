"""points-schedule: what of the caller's points expires when, the soonest first."""

from tallybook.body import Body
from tallybook.endpoint import endpoint
from tallybook.route import Route


class PointsSchedule(Body):
    """Nothing to say: the token says whose points they are."""


points_schedule = endpoint(
    Route(slug="points-schedule", procedure="points_schedule", body=PointsSchedule)
)
