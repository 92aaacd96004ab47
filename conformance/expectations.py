"""How checks state what they expect: each function returns, or raises a Violation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from antiparallel.conformance.records import Violation
from antiparallel.spec import SpecError
from antiparallel.spec.contract import Array


def expect(condition: bool, observed: str, expected: str, call: str) -> None:
    """Expect a condition to hold."""
    if not condition:
        raise Violation(observed, expected, call)


def expect_array(
    observed: Any, shape: tuple[int, ...], dtype: str, *, what: str, call: str
) -> None:
    """Expect a NumPy array of this shape and dtype."""
    if not isinstance(observed, np.ndarray):
        raise Violation(f"{what} of type {type(observed).__name__}", "a NumPy array", call)
    if observed.shape != shape:
        raise Violation(f"{what} of shape {observed.shape}", f"of shape {shape}", call)
    if observed.dtype != np.dtype(dtype):
        raise Violation(f"{what} in {observed.dtype}", f"in {dtype}", call)


def expect_close(
    observed: Any, expected: Array, tolerance: Array, dtype: str, *, what: str, why: str, call: str
) -> None:
    """Expect an array within a tolerance of the expected one, element by element.

    Args:
        observed: What the backend returned.
        expected: What it should have returned, in float64.
        tolerance: Allowed difference, in float64.
        dtype: The dtype that the array should have.
        what: Its name.
        why: What makes the expected numbers right.
        call: The call that returned it.
    """
    expect_array(observed, expected.shape, dtype, what=what, call=call)
    wrong = ~(np.abs(observed.astype(np.float64) - expected) <= tolerance)
    _report(wrong, observed, expected, tolerance, what, why, call)


def expect_equal(observed: Any, expected: Array, *, what: str, why: str, call: str) -> None:
    """Expect an array equal to the expected one, bit for bit but for the sign of zeros."""
    expect_array(observed, expected.shape, str(expected.dtype), what=what, call=call)
    wrong = observed != expected
    _report(wrong, observed, expected, np.zeros(expected.shape), what, why, call)


def _report(
    wrong: Any, observed: Array, expected: Array, tolerance: Array, what: str, why: str, call: str
) -> None:
    if not np.any(wrong):
        return
    places = np.argwhere(wrong)
    place = tuple(int(number) for number in places[0])
    where = f"[{', '.join(map(str, place))}]" if place else ""
    margin = f" +- {float(tolerance[place]):.2g}" if np.any(tolerance) else ""
    raise Violation(
        f"{what}{where} = {float(observed[place])!r} ({len(places)} of {observed.size} wrong)",
        f"{float(expected[place])!r}{margin}, {why}",
        call,
    )


def expect_spec_error(action: Callable[[], object], *, expected: str, call: str) -> None:
    """Expect SpecError, with a message that ends in what was received.

    Args:
        action: What must raise.
        expected: What a right argument would have been.
        call: The call.
    """
    try:
        action()
    except SpecError as error:
        received = str(error).rpartition("Received: ")[1:]
        expect(
            bool(received[0] and received[1].strip()),
            f"SpecError({str(error)!r})",
            "a message that ends in 'Received: ' and what was received",
            call,
        )
    except NotImplementedError:
        raise
    except Exception as error:
        raise Violation(
            f"{type(error).__name__}: {error}", f"SpecError: {expected}", call
        ) from error
    else:
        raise Violation("no error", f"SpecError: {expected}", call)
