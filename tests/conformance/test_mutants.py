"""The suite is tested by backends that are broken on purpose, and by one that is not."""

import pytest
from mutants import Mutant, all_mutants
from mutants.sinful import SinfulBackend

from antiparallel.conformance import all_checks, check_backend

MUTANTS = {mutant.path: mutant for mutant in all_mutants()}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_is_caught_by_the_check_of_the_clause_it_sins_against(mutant: Mutant):
    (record,) = check_backend(mutant.backend, only=[mutant.check])
    assert record.status == "failed"
    assert mutant.says in record.message
    assert f"\n{record.clause}: " in record.message


def test_every_check_is_failed_by_a_mutant():
    assert {mutant.check for mutant in MUTANTS.values()} == set(all_checks())


def test_mutants_differ_in_their_sins():
    assert len(MUTANTS) == len(all_mutants()) >= 15


def test_the_reference_passes_every_check():
    records = check_backend("reference")
    assert len(records) == len(all_checks())
    assert [record for record in records if record.status != "passed"] == []


def test_the_reference_wrapped_as_somebody_elses_backend_passes_every_check():
    records = check_backend(SinfulBackend(), profile="quick")
    assert [record for record in records if record.status != "passed"] == []
