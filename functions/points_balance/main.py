"""points-balance: what the caller has, for apps that do not read tables through PostgREST."""

from tallybook.body import Body
from tallybook.endpoint import endpoint
from tallybook.route import Route


class PointsBalance(Body):
    """Nothing to say: the token says whose balance it is."""


points_balance = endpoint(
    Route(slug="points-balance", procedure="points_balance", body=PointsBalance)
)
