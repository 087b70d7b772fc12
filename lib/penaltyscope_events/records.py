"""What a record says, as names and values: the meaning that ``encode`` writes in bytes."""

from collections.abc import Iterator

from penaltyscope_events import names
from penaltyscope_events.block import AttributeValue, Event, RunIdentity, StepBlock


def resource_attributes(identity: RunIdentity) -> dict[str, AttributeValue]:
    """The attributes of the resource that every record of a process belongs to."""
    attributes: dict[str, AttributeValue] = {
        names.SERVICE_NAME: identity.service_name,
        names.RUN_ID: identity.run_id,
        names.RANK: identity.rank,
        names.WORLD_SIZE: identity.world_size,
        names.ATTEMPT: identity.attempt,
    }
    if identity.instance_id:
        attributes[names.SERVICE_INSTANCE_ID] = identity.instance_id
    if identity.host_name:
        attributes[names.HOST_NAME] = identity.host_name
    return attributes | {names.RUN_TAG_PREFIX + key: value for key, value in identity.tags.items()}


def step_events(block: StepBlock) -> Iterator[tuple[Event, Event]]:
    """The start and the stop record of every step; term names are the scope's attribute."""
    for i in range(len(block)):
        common: dict[str, AttributeValue] = {
            names.PIPELINE: block.pipeline,
            names.STEP: int(block.step[i]),
            names.SEQ: int(block.seq[i]),
            names.INCARNATION: block.incarnation,
        }
        yield (
            Event(
                name=names.PIPELINE_START,
                time_ns=int(block.start_ns[i]),
                attributes=common | {names.TERM_COUNT: len(block.terms)},
            ),
            Event(
                name=names.PIPELINE_STOP,
                time_ns=int(block.stop_ns[i]),
                attributes=common | _numbers(block, i),
                error=bool(block.nonfinite[i]),
            ),
        )


def _numbers(block: StepBlock, i: int) -> dict[str, AttributeValue]:
    numbers: dict[str, AttributeValue] = {
        names.DURATION: float(block.duration[i]),
        names.TOTAL: float(block.total[i]),
        names.TOTAL_GRADIENT_NORM: float(block.total_gradient_norm[i]),
        names.TERM_VALUE: tuple(block.value[i].tolist()),
        names.TERM_WEIGHT: tuple(block.weight[i].tolist()),
        names.TERM_CONTRIBUTION: tuple(block.contribution[i].tolist()),
        names.TERM_GRADIENT_NORM: tuple(block.gradient_norm[i].tolist()),
    }
    if block.has_base[i]:
        numbers[names.BASE] = float(block.base[i])
    if block.flags[i].any():
        numbers[names.TERM_FLAGS] = tuple(block.flags[i].tolist())
    return numbers
