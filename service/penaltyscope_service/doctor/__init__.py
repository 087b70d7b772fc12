"""Looks at a deployment from outside, and says what is wrong with it and what to do."""

from penaltyscope_service.doctor._finding import Finding, Level
from penaltyscope_service.doctor._folder import examine_folder
from penaltyscope_service.doctor._prometheus import examine_prometheus
from penaltyscope_service.doctor._service import examine_service
from penaltyscope_service.doctor._visit import Visit

__all__ = [
    "Finding",
    "Level",
    "Visit",
    "examine_folder",
    "examine_prometheus",
    "examine_service",
]
