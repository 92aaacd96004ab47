"""A failure prints lines that show it again when they are pasted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import all_mutants

from antiparallel.conformance import check_backend

SAMPLE = [
    "mutants.feedback:UsesW",
    "mutants.feedback:TransposesBWithinGroups",
    "mutants.optimizer:TakesTheSignOfTheVelocity",
    "mutants.errors:ComputesWhatItCannot",
    "mutants.training:SumsTheLoss",
]


@pytest.mark.parametrize("path", SAMPLE)
def test_the_lines_that_a_failure_prints_show_it_again_in_a_fresh_process(path):
    (mutant,) = (mutant for mutant in all_mutants() if mutant.path == path)
    (record,) = check_backend(path, only=[mutant.check])
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", record.reproduce],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    sentence = record.message.split("\n")[0]
    assert f"antiparallel.conformance.records.Violation: {sentence}" in done.stderr


def test_the_lines_for_a_backend_without_a_name_say_where_to_put_it():
    mutant = all_mutants()[0]
    (record,) = check_backend(mutant.backend, only=[mutant.check])
    assert "backend = ...  # the object that was checked" in record.reproduce


def test_the_same_lines_pass_on_a_backend_that_conforms():
    (record,) = check_backend(SAMPLE[0], only=["check_input_error_of_dense_layers"])
    exec(record.reproduce.replace(SAMPLE[0], "reference"), {})
