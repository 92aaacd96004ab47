"""The pytest front end, run from a folder that knows nothing of this project."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DENSE = "check_forward_of_dense_layers"
BIAS = "mutants.shapes:ForgetsTheBias"


@pytest.fixture
def run(tmp_path):
    """Run pytest on the suite in an empty folder."""

    def run(*arguments, suite=("--pyargs", "antiparallel.conformance")):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        environment.pop("PYTEST_ADDOPTS", None)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *suite, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_conforming_backend_passes_and_the_header_says_what_was_tested(run):
    done = run("--backend", "reference", "--profile", "quick", "-k", "dense_layers")
    assert done.returncode == 0, done.stdout
    assert "antiparallel specification 1." in done.stdout
    assert "backend 'reference'" in done.stdout
    assert "profile 'quick'" in done.stdout
    assert "checks, up to 10 examples each" in done.stdout
    assert "declared unsupported, and must raise UnsupportedError: nothing" in done.stdout


def test_the_header_lists_what_is_declared_unsupported(run):
    done = run("--backend", "mutants.errors:ComputesWhatItCannot", "--collect-only")
    assert "UnsupportedError: 1\n  groups: The kernels for it are not written." in done.stdout


def test_a_failure_shows_its_sentence_its_clause_and_lines_to_paste(run):
    done = run("--backend", BIAS, "-k", DENSE)
    assert done.returncode == 1
    assert f"{DENSE} (N3)" in done.stdout
    assert "W x + b [layer(Dense(" in done.stdout
    assert "\nN3: Dense." in done.stdout
    assert f"\nbackend = get_backend('{BIAS}')\nreplay('{DENSE}', backend" in done.stdout
    assert "Traceback" not in done.stdout
    assert "runner.py" not in done.stdout


def test_records_are_written_as_json(run, tmp_path):
    done = run("--backend", BIAS, "-k", f"{DENSE} or check_sign", "--conformance-json", "r.json")
    assert done.returncode == 1
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report["spec_version"].startswith("1.")
    assert report["profile"] == "default"
    assert report["counts"] == {"failed": 1, "passed": 2}
    (failed,) = (record for record in report["records"] if record["status"] == "failed")
    assert (failed["check"], failed["clause"]) == (DENSE, "N3")
    assert failed["reproduce"]


def test_an_expected_failure_does_not_fail_the_run(run, tmp_path):
    (tmp_path / "expected.toml").write_text(
        f'{DENSE} = "https://example.org/1"\n', encoding="utf-8"
    )
    done = run("--backend", BIAS, "-k", DENSE, "--expected-failures", "expected.toml", "-rx")
    assert done.returncode == 0, done.stdout
    assert "1 xfailed" in done.stdout
    assert "https://example.org/1" in done.stdout


def test_an_expected_failure_that_passes_fails_the_run(run, tmp_path):
    (tmp_path / "expected.toml").write_text(f'{DENSE} = "Once."\n', encoding="utf-8")
    done = run("--backend", "reference", "-k", DENSE, "--expected-failures", "expected.toml")
    assert done.returncode == 1
    assert "should be a failure as listed (Once.)" in done.stdout


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ('check_nothing = "?"', "Received: check='check_nothing'"),
        (f"{DENSE} = 1", "Expected a reason in words"),
        ("no toml", "Expected a TOML file"),
    ],
)
def test_a_wrong_list_of_expected_failures_stops_the_run(run, tmp_path, listed, message):
    (tmp_path / "expected.toml").write_text(listed, encoding="utf-8")
    done = run("--backend", "reference", "--expected-failures", "expected.toml")
    assert done.returncode == 4
    assert message in done.stderr


def test_no_backend_and_an_unknown_backend_stop_the_run(run):
    without, unknown = run(), run("--backend", "nobody")
    assert without.returncode == unknown.returncode == 4
    assert "Expected --backend NAME" in without.stderr
    assert "Received: backend='nobody'" in unknown.stderr


def test_running_no_check_at_all_is_a_failure(run):
    assert run("--backend", "reference", "-k", "nothing_of_that_name").returncode == 5


def test_workers_of_xdist_share_the_checks_and_one_report_holds_all_records(run, tmp_path):
    chosen = ("-k", "lambda", "--profile", "quick")
    done = run("--backend", "reference", "-n", "2", "--conformance-json", "r.json", *chosen)
    assert done.returncode == 0, done.stdout
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert report["counts"] == {"passed": 6}


def test_the_suite_is_silent_in_other_peoples_sessions(run, tmp_path):
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n"
        "def test_theirs(request):\n"
        "    assert request.config.getoption('--backend', None) is None\n"
        "    loaded = [name for name in sys.modules if name.startswith('antiparallel.')]\n"
        "    assert loaded == []\n"
        "    assert 'numpy' not in sys.modules\n",
        encoding="utf-8",
    )
    done = run(
        suite=(
            "-p",
            "no:hypothesispytest",
        )
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
