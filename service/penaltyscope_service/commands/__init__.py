"""What ``penaltyscope`` does beside ``serve``, one command a module."""

from penaltyscope_service.commands._backup import back_up_history
from penaltyscope_service.commands._doctor import doctor
from penaltyscope_service.commands._export import export_run
from penaltyscope_service.commands._import import import_files
from penaltyscope_service.commands._token import token

__all__ = ["back_up_history", "doctor", "export_run", "import_files", "token"]
