"""How time and memory grow is read off records that differ in one size."""

import pytest

from antiparallel.benchmarks.speed.growth import growth_of


def test_powers_of_width_depth_and_batch_are_found(make_record):
    def record(width: int = 8, depth: int = 4, batch: int = 2):
        seconds = width**2 * depth * batch**0.5
        own = width * depth**0.5 * batch
        return make_record(
            {"ss": 1.25}, {"plain": round(1e6 * own), "ss": round(2e6 * own)},
            time=seconds, model="convnet", width=width, depth=depth, batch=batch,
        )  # fmt: skip

    records = [
        record(),
        *(record(width=width) for width in (16, 32)),
        *(record(depth=depth) for depth in (8, 16)),
        *(record(batch=batch) for batch in (4, 8, 16)),
    ]
    grown = {(one.axis, one.name): one for one in growth_of(records[::-1])}
    assert grown.keys() == {
        (axis, name) for axis in ("width", "depth", "batch") for name in ("plain", "ss")
    }
    found = {
        axis: (one.exponent(one.seconds), one.exponent(one.memory))
        for (axis, name), one in grown.items()
        if name == "ss"
    }
    assert found["width"] == pytest.approx((2, 1), abs=1e-4)
    assert found["depth"] == pytest.approx((1, 0.5), abs=1e-4)
    assert found["batch"] == pytest.approx((0.5, 1), abs=1e-4)
    along = grown["batch", "ss"]
    assert (along.sizes, along.fixed) == ((2, 4, 8, 16), "width 8, depth 4, 224 px")
    assert [ratio.median for ratio in along.ratios] == pytest.approx([1.25] * 4)
    assert along.seconds == pytest.approx([1.25 * 256 * batch**0.5 for batch in (2, 4, 8, 16)])


def test_only_records_alike_in_all_else_are_a_series(make_record):
    convnet = {"model": "convnet", "batch": 2}
    alone = [
        make_record(width=8, **convnet),
        make_record(width=16, compiled=True, **convnet),
        make_record(width=32, backend="keras", engine="jax", **convnet),
        make_record(width=64, depth=2, **convnet),
        make_record(batch=4),
        make_record(batch=8),
    ]
    assert growth_of(alone) == []
    (plain, ss) = growth_of([*alone, make_record(width=16, **convnet)])
    assert (plain.framework, plain.axis, plain.sizes) == ("torch", "width", (8, 16))
    assert ss.memory == ()


def test_a_rule_that_was_not_measured_everywhere_has_no_line(make_record):
    convnet = {"model": "convnet", "batch": 2}
    first = make_record({"ss": 1.1, "fa": 1.2}, width=8, **convnet)
    second = make_record({"ss": 1.1}, width=16, **convnet)
    assert [one.name for one in growth_of([first, second])] == ["plain", "ss"]
