"""What a chart draws."""

from penaltyscope_service.series._lines import TOTAL_TERM, line_keys
from penaltyscope_service.series._read import Range, read_series

__all__ = ["TOTAL_TERM", "Range", "line_keys", "read_series"]
