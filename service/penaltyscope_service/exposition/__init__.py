"""What Prometheus scrapes of runs."""

from penaltyscope_service.exposition._exposition import Exposition, Page, write
from penaltyscope_service.exposition._moment import Moment

__all__ = ["Exposition", "Moment", "Page", "write"]
