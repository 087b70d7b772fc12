from dataclasses import replace

import numpy as np
import pytest

from penaltyscope_events import (
    COLUMNS,
    RunIdentity,
    StepBlock,
    TermFlag,
    encode_request,
    encode_steps,
)
from penaltyscope_service.decode import ContentType, decode_logs
from tests.service.blocks import make_block, make_request
from tests.service.decode.messages import TIME_NS, decode, only_block, stop

BOTH = pytest.mark.parametrize("encoding", ["application/x-protobuf", "application/json"])


def assert_same(got: StepBlock, wanted: StepBlock) -> None:
    head = (wanted.pipeline, wanted.incarnation, wanted.terms)
    assert (got.pipeline, got.incarnation, got.terms) == head
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(got, column), getattr(wanted, column), column)
        assert getattr(got, column).dtype == getattr(wanted, column).dtype


def test_a_block_comes_out_as_it_was_encoded() -> None:
    block = make_block(steps=70, terms=[f"term-{i}" for i in range(9)])

    decoded = decode_logs(make_request(block), "application/x-protobuf")

    (batch,) = decoded.batches
    (step_block,) = batch.steps
    assert_same(step_block, block)
    assert decoded.received == {"pipeline.start": 70, "pipeline.stop": 70}
    assert decoded.refused == {}


def test_every_kind_of_double_survives() -> None:
    kinds = [np.nan, np.inf, -np.inf, -0.0, 5e-324, 1.7976931348623157e308]
    block = make_block(steps=1, terms=[f"term-{i}" for i in range(len(kinds))])
    row = np.array([kinds])
    flags = np.array([[TermFlag.VALUE_NAN, TermFlag.VALUE_INF, TermFlag.VALUE_INF, 0, 0, 0]])
    sent = replace(block, value=row, flags=flags.astype(np.int32))

    got = only_block(decode_logs(make_request(sent), "application/x-protobuf"))

    assert got.value.tobytes() == row.tobytes()
    assert_same(got, sent)


def test_steps_are_grouped_by_pipeline_incarnation_and_terms_in_order_of_arrival() -> None:
    first = make_block(steps=2)
    other_pipeline = make_block(steps=2, pipeline="pruning")
    other_incarnation = make_block(steps=2, incarnation="second")
    other_terms = make_block(steps=2, terms=("sparsity",), first=7)
    more = make_block(steps=2, first=2)
    request = make_request(first, other_pipeline, other_incarnation, other_terms, more)

    (batch,) = decode_logs(request, "application/x-protobuf").batches

    assert [len(block) for block in batch.steps] == [4, 2, 2, 2]
    np.testing.assert_array_equal(batch.steps[0].seq, [0, 1, 2, 3])
    assert_same(batch.steps[1], other_pipeline)
    assert_same(batch.steps[2], other_incarnation)
    assert_same(batch.steps[3], other_terms)


def test_each_resource_of_a_request_is_a_batch_of_its_own() -> None:
    identities = [RunIdentity(run_id="a", rank=rank, world_size=2) for rank in (0, 1)]
    body = b"".join(encode_request(i, [encode_steps(make_block())]) for i in identities)

    decoded = decode_logs(body, "application/x-protobuf")

    assert [(b.identity.run_id, b.identity.rank) for b in decoded.batches] == [("a", 0), ("a", 1)]


@BOTH
def test_a_stop_record_of_any_client_becomes_a_row(encoding: ContentType) -> None:
    (batch,) = decode(encoding, stop({"penaltyscope.base": 0.5})).batches

    (block,) = batch.steps
    assert (block.pipeline, block.incarnation) == ("distillation", "first")
    assert block.terms == ("sparsity", "distill")
    assert (block.step[0], block.seq[0], block.stop_ns[0]) == (10, 1, TIME_NS)
    assert (block.duration[0], block.base[0], block.has_base[0]) == (0.25, 0.5, True)
    np.testing.assert_array_equal(block.value, [[1.0, 2.0]])
    np.testing.assert_array_equal(block.gradient_norm, [[0.5, 0.75]])
    np.testing.assert_array_equal(block.flags, [[0, 0]])


@BOTH
def test_term_names_may_sit_on_the_scope_and_the_record_wins(encoding: ContentType) -> None:
    scope = {"penaltyscope.term.names": ["of", "scope"]}
    bare = stop(without="penaltyscope.term.names")

    (batch,) = decode(encoding, bare, stop(), scope=scope).batches

    assert [block.terms for block in batch.steps] == [("of", "scope"), ("sparsity", "distill")]


@BOTH
def test_ints_stand_in_for_doubles(encoding: ContentType) -> None:
    changes = {"penaltyscope.total": 3, "penaltyscope.term.value": [1, 2.5]}

    block = only_block(decode(encoding, stop(changes)))

    assert block.total[0] == 3.0
    np.testing.assert_array_equal(block.value, [[1.0, 2.5]])


@BOTH
def test_no_base_loss_is_not_a_base_loss_of_zero(encoding: ContentType) -> None:
    block = only_block(decode(encoding, stop()))

    assert not block.has_base[0]
    assert np.isnan(block.base[0])


@BOTH
def test_missing_norms_are_flagged_as_not_measured(encoding: ContentType) -> None:
    bare = stop(without="penaltyscope.term.gradient_norm")

    block = only_block(decode(encoding, bare))

    assert np.isnan(block.gradient_norm).all()
    np.testing.assert_array_equal(block.flags, TermFlag.NORM_NOT_MEASURED)
    assert np.isnan(block.total_gradient_norm[0])
    assert not block.nonfinite[0]


@BOTH
def test_missing_contributions_are_weight_times_value_and_0_where_disabled(
    encoding: ContentType,
) -> None:
    changes = {
        "penaltyscope.term.value": [2.0, float("nan")],
        "penaltyscope.term.weight": [0.5, 1.0],
        "penaltyscope.term.flags": [0, int(TermFlag.DISABLED)],
    }
    bare = stop(changes, without="penaltyscope.term.contribution")

    block = only_block(decode(encoding, bare))

    np.testing.assert_array_equal(block.contribution, [[1.0, 0.0]])
    assert not block.nonfinite[0]


@BOTH
def test_flags_that_follow_from_the_numbers_are_added(encoding: ContentType) -> None:
    changes = {
        "penaltyscope.term.value": [float("nan"), float("-inf")],
        "penaltyscope.term.gradient_norm": [float("inf"), 0.0],
        "penaltyscope.term.flags": [0, int(TermFlag.INPUT_INF)],
    }

    block = only_block(decode(encoding, stop(changes)))

    wanted = [
        TermFlag.VALUE_NAN | TermFlag.GRADIENT_INF,
        TermFlag.VALUE_INF | TermFlag.INPUT_INF,
    ]
    np.testing.assert_array_equal(block.flags, [wanted])


@BOTH
@pytest.mark.parametrize(("own", "observed", "wanted"), [(5, 6, 5), (0, 6, 6), (0, 0, 7)])
def test_the_time_is_the_records_else_the_observers_else_ours(
    encoding: ContentType, own: int, observed: int, wanted: int
) -> None:
    timed = stop(time_unix_nano=own, observed_time_unix_nano=observed)

    block = only_block(decode(encoding, timed, received_ns=7))

    assert block.stop_ns[0] == wanted
