"""How a backend is found by its name."""

import re

import pytest
from mutants.sinful import SinfulBackend

from antiparallel.conformance import check_backend, get_backend
from antiparallel.conformance.backends import versions
from antiparallel.spec import SpecError
from antiparallel.spec.reference import ReferenceBackend


class Lacking:
    """Half a backend."""

    name = "half"
    layer = sgd = train = None


LACKING = Lacking()


def test_a_registered_backend_is_found_by_its_name():
    assert get_backend("reference").name == "reference"


def test_a_backend_that_is_not_registered_is_found_by_module_and_attribute():
    assert isinstance(get_backend("mutants.feedback:UsesW"), SinfulBackend)


def test_an_unknown_name_lists_those_that_are_known():
    with pytest.raises(SpecError, match=re.escape("reference")) as caught:
        get_backend("jaxx")
    assert str(caught.value).endswith("Received: backend='jaxx'")


def test_an_object_that_is_no_backend_is_refused_with_what_is_missing():
    message = "unsupported, initial_weight, diagnostics missing"
    with pytest.raises(SpecError, match=message):
        check_backend(LACKING)
    with pytest.raises(SpecError, match=message):
        get_backend(f"{__name__}:LACKING")


def test_a_class_is_refused_for_its_object():
    with pytest.raises(SpecError, match="not its class"):
        check_backend(ReferenceBackend)


def test_versions_are_reported_where_a_backend_offers_them():
    class Versioned(ReferenceBackend):
        versions = {"numpy": "2.4"}  # noqa: RUF012

    assert versions(Versioned()) == {"numpy": "2.4"}
    assert versions(get_backend("reference")) == {}
