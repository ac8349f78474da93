"""Where the guide's code finds the service."""

from tallybook.points_service import PointsService

__all__ = ["PointsService"]
