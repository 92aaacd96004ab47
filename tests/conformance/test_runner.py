"""The plain front end: what check_backend returns, and what it refuses."""

import dataclasses
import re
from typing import get_args

import numpy as np
import pytest
from mutants import all_mutants, shapes
from mutants.sinful import SinfulBackend, SinfulLayer

from antiparallel.conformance import all_checks, check_backend
from antiparallel.conformance.cases import dtype_needs, geometry_needs
from antiparallel.conformance.clauses import clauses
from antiparallel.spec import ALIASES, RULES, Dense, SpecError, UnsupportedError, as_rule
from antiparallel.spec.contract import Capability

DENSE = "check_forward_of_dense_layers"
CAPABILITIES = "check_capabilities_work_or_are_refused"
SS_BATCH = "check_ss_batch_draws_anew_at_every_backward"


class WithoutSSBatch(SinfulBackend):
    """A correct backend that cannot do ss-batch and says so."""

    unsupported = {"rule-ss-batch": "Nothing counts its backward passes."}  # noqa: RUF012

    def layer(self, geometry, weight, bias, rule, **options):
        if as_rule(rule).name == "ss-batch":
            raise UnsupportedError(self.unsupported["rule-ss-batch"])
        return super().layer(geometry, weight, bias, rule, **options)

    def train(self, network, batches, config, *, seed=0):
        if any(getattr(layer, "rule", None) == as_rule("ss-batch") for layer in network.layers):
            raise UnsupportedError(self.unsupported["rule-ss-batch"])
        return super().train(network, batches, config, seed=seed)


def statuses(backend, **options):
    return {record.check: record.status for record in check_backend(backend, **options)}


def test_a_record_has_fixed_keys_and_names_its_clause():
    (record,) = check_backend("reference", only=[DENSE], profile="quick")
    assert list(dataclasses.asdict(record)) == [
        "check",
        "clause",
        "status",
        "message",
        "reproduce",
        "examples",
        "seconds",
    ]
    assert (record.check, record.clause, record.status) == (DENSE, "N3", "passed")
    assert (record.message, record.reproduce, record.examples) == ("", "", 10)
    assert record.seconds > 0


def test_more_examples_run_under_a_thorough_profile():
    (default,) = check_backend("reference", only=[DENSE])
    (thorough,) = check_backend("reference", only=[DENSE], profile="thorough")
    assert 10 < default.examples < thorough.examples == 1000


def test_an_empty_choice_of_checks_runs_them_all_and_never_none():
    heard = []

    def stop_after_the_first(record, done, total):
        heard.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_backend("reference", only=[], profile="quick", progress=stop_after_the_first)
    assert heard == [(1, len(all_checks()))]


def test_progress_hears_of_every_check():
    heard = []
    records = check_backend(
        "reference",
        only=[DENSE, CAPABILITIES],
        profile="quick",
        progress=lambda *report: heard.append(report),
    )
    assert heard == [(records[0], 1, 2), (records[1], 2, 2)]


def test_a_failure_is_one_sentence_then_the_clause():
    (record,) = check_backend(shapes.ForgetsTheBias, only=[DENSE])
    sentence, clause = record.message.split("\n")
    assert re.fullmatch(
        r"Observed output.* = .*, but should be .*, W x \+ b \[layer\(.*\].", sentence
    )
    assert clause == f"N3: {clauses()['N3']}"


def test_two_runs_find_the_same_example():
    once, again = (
        check_backend(shapes.FlipsTheKernel, only=["check_forward_of_convolutions"])
        for _ in range(2)
    )
    assert once[0].message == again[0].message
    assert once[0].reproduce == again[0].reproduce
    assert once[0].examples == again[0].examples


def test_what_is_declared_unsupported_must_raise_and_is_reported_as_such():
    found = statuses(WithoutSSBatch(), profile="quick")
    unsupported = {check for check, status in found.items() if status == "unsupported"}
    assert SS_BATCH in unsupported
    assert "check_ss_batch_advances_only_at_backward" in unsupported
    assert {status for check, status in found.items() if check not in unsupported} == {"passed"}


class LimitedLayer(SinfulLayer):
    """A layer that meets what it cannot do in a forward or backward pass."""

    def forward(self, x):
        self.require_supported(x)
        return super().forward(x)

    def backward(self, x, error):
        self.require_supported(x)
        return super().backward(x, error)

    def require_supported(self, x):
        if isinstance(self.geometry, Dense) and x.ndim != 2:
            raise UnsupportedError("Expected inputs (batch, n_in).")
        if x.shape[0] == 0:
            raise UnsupportedError("Expected at least one example.")


class Limited(SinfulBackend):
    """A correct backend that can do little; it checks arguments before it says so."""

    Layer = LimitedLayer
    checks_first = True
    unsupported = dict.fromkeys(get_args(Capability), "Not written.")

    def layer(self, geometry, weight, bias, rule, **options):
        if self.checks_first:
            super().layer(geometry, weight, bias, rule, **options)
        known = rule in (*RULES, *ALIASES) or rule in RULES.values()
        needs = geometry_needs(geometry) | dtype_needs(str(getattr(weight, "dtype", "")))
        if needs or (known and as_rule(rule).name in ("ss-fixed", "ss-batch", "fa-sign")):
            raise UnsupportedError("Not written.")
        return super().layer(geometry, weight, bias, rule, **options)

    def sgd(self, config, parameters, biases):
        wide = any(array.dtype == np.float64 for array in parameters.values())
        if wide or config.batch_manhattan or config.keep_signs:
            raise UnsupportedError("Not written.")
        return super().sgd(config, parameters, biases)

    def train(self, network, batches, config, *, seed=0):
        for layer in network.layers:
            if not isinstance(layer, str) and batches:
                weight = np.zeros(layer.geometry.weight_shape, batches[0][0].dtype)
                self.layer(layer.geometry, weight, None, layer.rule)
        return super().train(network, batches, config, seed=seed)


class LimitedEagerly(Limited):
    """The same, but it says so before it checks arguments."""

    checks_first = False


@pytest.mark.parametrize("backend", [Limited(), LimitedEagerly()], ids=["late", "eager"])
def test_a_correct_backend_may_declare_every_capability_unsupported(backend):
    records = check_backend(backend, profile="quick")
    assert [r for r in records if r.status not in ("passed", "unsupported")] == []
    assert {r.status for r in records} == {"passed", "unsupported"}


def test_computing_what_is_declared_unsupported_fails():
    class Silent(SinfulBackend):
        unsupported = {"rule-ss-batch": "Nothing counts its backward passes."}  # noqa: RUF012

    records = check_backend(Silent(), only=[CAPABILITIES, SS_BATCH])
    for record in records:
        assert record.status == "failed"
        assert "a result, but should be UnsupportedError, for it declares" in record.message


def test_computing_something_else_for_what_is_declared_unsupported_fails_alike():
    class Wrong(SinfulBackend):
        unsupported = {"rule-ss-batch": "Backpropagation is used instead."}  # noqa: RUF012

        def layer(self, geometry, weight, bias, rule, **options):
            return super().layer(geometry, weight, bias, "bp", **options)

    (record,) = check_backend(Wrong(), only=[SS_BATCH])
    assert record.status == "failed"
    assert "should be UnsupportedError" in record.message


def test_an_expected_failure_is_reported_as_one_with_its_reason():
    reason = "Known: https://example.org/1"
    (record,) = check_backend(
        shapes.ForgetsTheBias, only=[DENSE], expected_failures={DENSE: reason}
    )
    assert record.status == "expected-failure"
    assert record.message.startswith(f"Expected: {reason}\nObserved ")
    assert record.reproduce


def test_an_expected_failure_that_passes_fails():
    (record,) = check_backend("reference", only=[DENSE], expected_failures={DENSE: "It was so."})
    assert record.status == "failed"
    assert "Observed that it passed, but should be a failure as listed" in record.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["check_nothing"]}, "Received: check='check_nothing'"),
        ({"profile": "slow"}, "Received: profile='slow'"),
        ({"expected_failures": {"check_nothing": "?"}}, "Received: check='check_nothing'"),
        ({"expected_failures": {DENSE: " "}}, "Expected a reason in words"),
    ],
)
def test_a_wrong_request_is_refused(options, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        check_backend("reference", **options)


def test_an_error_of_the_backend_is_a_failure_of_the_check_and_not_of_the_run():
    class Raises(SinfulBackend):
        def layer(self, *arguments, **options):
            raise ZeroDivisionError("of all things")

    (record,) = check_backend(Raises(), only=[DENSE])
    assert record.status == "failed"
    assert "Observed ZeroDivisionError: of all things, but should be a result" in record.message


def test_a_backend_that_answers_differently_each_time_is_said_to_do_so():
    class Moody(SinfulBackend):
        calls = 0

        def layer(self, geometry, weight, bias, rule, **options):
            Moody.calls += 1
            moved = np.full_like(weight, 3) if Moody.calls == 10 else weight
            return super().layer(geometry, moved, bias, rule, **options)

    (record,) = check_backend(Moody(), only=[DENSE])
    assert record.status == "failed"
    assert "now one result, now another" in record.message


def test_every_check_names_a_clause_of_the_specification():
    assert {check.clause for check in all_checks().values()} <= set(clauses())


def test_every_clause_that_the_contract_can_test_has_a_check():
    part_of_others = {
        "N1": "the shapes in which every check passes inputs and errors",
        "N2": "the layout in which every check passes weights",
        "R10": "every check of feedback compares after rounding once, in both dtypes",
        "D2": "T1 gives the layers of a network their indices",
        "D4": "D5 and D6 compare the numbers made of units",
        "E1": "every check of chapter E reads the message",
    }
    checked = {check.clause for check in all_checks().values()} | set(part_of_others)
    assert clauses_that_a_test_can_decide() - checked == set()


def clauses_that_a_test_can_decide():
    from importlib.resources import files

    text = files("antiparallel.spec").joinpath("SPEC.md").read_text(encoding="utf-8")
    starts = list(re.finditer(r"^\*\*([A-Z]\d+) ", text, re.MULTILINE))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {
        start[1]
        for start, end in zip(starts, ends, strict=True)
        if "*Not testable" not in text[start.start() : end]
    }


def test_checks_are_documented_in_one_sentence_at_least():
    for check in all_checks().values():
        assert check.function.__doc__.strip().split("\n")[0].endswith(".")


def test_mutants_say_what_the_message_must_contain():
    assert all(mutant.says for mutant in all_mutants())
