"""The JSON API that the page and other programs read."""

from penaltyscope_service.api._problem import admit_damage, admit_defect, refuse_arguments
from penaltyscope_service.api._routes import create_api_router
from penaltyscope_service.api._run_path import EncodedRunPaths

__all__ = [
    "EncodedRunPaths",
    "admit_damage",
    "admit_defect",
    "create_api_router",
    "refuse_arguments",
]
