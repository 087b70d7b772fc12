"""A run as a file: CSV, lines of JSON or Parquet, made piece by piece."""

from penaltyscope_service.export._export import FORMATS, MEDIA_TYPES, Format, export
from penaltyscope_service.export._parquet import MissingPyarrowError

__all__ = ["FORMATS", "MEDIA_TYPES", "Format", "MissingPyarrowError", "export"]
