"""The resource of a request: which process of which run speaks."""

from penaltyscope_events import RunIdentity, names
from penaltyscope_service.decode._attribute import (
    MAX_NAME_LENGTH,
    InvalidRecordError,
    integer,
    name,
    require,
)
from penaltyscope_service.decode._record import Attributes


def read_identity(attributes: Attributes) -> RunIdentity:
    """The identity that the resource's attributes state.

    Raises:
        InvalidRecordError: if there is no run id, or an attribute of ours has the wrong type.
    """
    return RunIdentity(
        run_id=_run_id(attributes),
        rank=_integer_or(attributes, names.RANK, 0),
        world_size=max(1, _integer_or(attributes, names.WORLD_SIZE, 1)),
        attempt=_integer_or(attributes, names.ATTEMPT, 0),
        service_name=_text_or_empty(attributes, names.SERVICE_NAME),
        instance_id=_text_or_empty(attributes, names.SERVICE_INSTANCE_ID),
        host_name=_text_or_empty(attributes, names.HOST_NAME),
        tags=_tags(attributes),
    )


def _run_id(attributes: Attributes) -> str:
    if names.RUN_ID not in attributes:
        raise InvalidRecordError(
            "missing_run_id",
            f"the resource attribute {names.RUN_ID} is missing: it must name the run in 1 to "
            f"{MAX_NAME_LENGTH} characters.",
        )
    return name(attributes, names.RUN_ID)


def _integer_or(attributes: Attributes, key: str, default: int) -> int:
    return integer(attributes, key) if key in attributes else default


def _text_or_empty(attributes: Attributes, key: str) -> str:
    """These belong to OpenTelemetry, not to us, so that a value of another type is no error."""
    value = attributes.get(key)
    return value if isinstance(value, str) else ""


def _tags(attributes: Attributes) -> dict[str, str]:
    return {
        key.removeprefix(names.RUN_TAG_PREFIX): _tag(attributes, key)
        for key in attributes
        if key.startswith(names.RUN_TAG_PREFIX)
    }


def _tag(attributes: Attributes, key: str) -> str:
    value = require(attributes, key)
    if value is None or isinstance(value, list):
        raise InvalidRecordError("wrong_type", f"{key} must be a string, got {value!r}.")
    return str(value)
