from dataclasses import fields

from penaltyscope_service.observatory import Limits
from penaltyscope_service.settings import Settings


def test_every_limit_is_a_setting_with_the_same_default() -> None:
    settings = Settings()

    assert {limit.name: limit.default for limit in fields(Limits)} == {
        limit.name: getattr(settings, limit.name) for limit in fields(Limits)
    }
