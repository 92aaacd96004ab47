"""The arrays and layers that checks are driven with."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiparallel.conformance import strategies
from antiparallel.conformance.arrays import Memory, Values, numbers
from antiparallel.conformance.cases import LayerCase, SGDCase
from antiparallel.conformance.source import as_source
from antiparallel.spec import Conv, Dense
from antiparallel.spec.contract import Capability, SGDConfig


def numbers_of(**options):
    chosen = {"values": "normal", "memory": "C", "seed": 0} | options
    return numbers((3, 4), "float32", **chosen)


@pytest.mark.parametrize("memory", get_args(Memory))
def test_memory_changes_where_numbers_lie_and_not_what_they_are(memory):
    array = numbers_of(memory=memory)
    assert np.array_equal(array, numbers_of())
    assert array.flags.c_contiguous == (memory in ("C", "read-only"))
    assert array.flags.writeable == (memory != "read-only")


def test_values_are_as_awkward_as_they_say():
    zeros, ties = numbers_of(values="zeros"), numbers_of(values="ties")
    assert (zeros == 0).any()
    assert np.signbit(zeros[zeros == 0]).any()
    assert not np.signbit(zeros[zeros == 0]).all()
    assert set(np.unique(abs(ties))) == {0.5}
    subnormal = abs(numbers_of(values="subnormal"))
    assert 0 < subnormal.max() < np.finfo(np.float32).smallest_normal
    assert abs(numbers_of(values="huge")).max() > 1e29
    assert abs(numbers_of(values="tiny")).max() < 1e-28
    assert len(get_args(Values)) == 6


def test_cases_reach_every_capability():
    reached = set()

    @settings(max_examples=400, derandomize=True, database=None, deadline=None)
    @given(
        case=st.one_of(
            strategies.layer_cases(),
            strategies.layer_cases(leading=(0,)),
            strategies.sgd_cases(batch_manhattan=st.booleans(), keep_signs=st.booleans()),
        )
    )
    def collect(case):
        reached.update(case.needs)

    collect()
    assert reached == set(get_args(Capability))


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(case=strategies.layer_cases())
def test_a_case_prints_as_the_expression_that_makes_it(case):
    from antiparallel.spec import ConvTranspose

    names = {"LayerCase": LayerCase, "Dense": Dense, "Conv": Conv, "ConvTranspose": ConvTranspose}
    assert eval(as_source(case), names) == case


def test_defaults_are_not_printed():
    case = SGDCase(SGDConfig(lr=0.1, nesterov=True, momentum=0.9))
    assert as_source(case) == "SGDCase(config=SGDConfig(lr=0.1, momentum=0.9, nesterov=True))"
