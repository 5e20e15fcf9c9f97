"""From matrices to structures: the nearest member, in the norm of the data."""

from linops.projection.conversion import convert
from linops.projection.moments import Moments
from linops.projection.project import ProjectionInfo, project

__all__ = ["Moments", "ProjectionInfo", "convert", "project"]
