"""Who may send and who may look: tokens, what they allow, and from which hosts."""

from penaltyscope_service.access._denial import DeniedError
from penaltyscope_service.access._document import DENIALS, describe_tokens
from penaltyscope_service.access._file import TokensError, add_token, read_tokens
from penaltyscope_service.access._gate import Gate
from penaltyscope_service.access._guard import Guard
from penaltyscope_service.access._headers import Headers, first_of_each
from penaltyscope_service.access._metrics import QuotaMetrics
from penaltyscope_service.access._tenant import Tenant, may_see, own_run
from penaltyscope_service.access._token import Scope, Token

__all__ = [
    "DENIALS",
    "DeniedError",
    "Gate",
    "Guard",
    "Headers",
    "QuotaMetrics",
    "Scope",
    "Tenant",
    "Token",
    "TokensError",
    "add_token",
    "describe_tokens",
    "first_of_each",
    "may_see",
    "own_run",
    "read_tokens",
]
