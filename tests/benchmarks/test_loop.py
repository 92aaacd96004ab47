"""The loop, on a stepper without any framework."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from antiparallel.benchmarks.data import digits
from antiparallel.benchmarks.loop import Progress
from antiparallel.benchmarks.record import Record
from antiparallel.benchmarks.run_folder import RunFolder
from antiparallel.spec import SpecError

TrainLinear = Callable[..., Record]
Result = Callable[[Path], tuple[str, bytes]]
STEPS = 6  # of 200 pictures each in an epoch of 1,397


def test_a_run_learns_and_is_recorded_epoch_by_epoch(tmp_path: Path, train_linear: TrainLinear):
    record = train_linear(tmp_path / "run", epochs=4)
    assert record.status == "complete"
    assert [epoch.epoch for epoch in record.epochs] == [0, 1, 2, 3]
    assert record.epochs[-1].validation["error"] < 0.2 < record.epochs[0].train["error"]
    assert record.epochs[0].diagnostics["fc"].angle == 40
    assert len(record.predictions) == len(digits().validation.labels)
    wrong = record.predictions != digits().validation.labels
    assert wrong.mean() == pytest.approx(record.epochs[-1].validation["error"], abs=1e-15)
    assert RunFolder(tmp_path / "run").read_record().model_dump_json() == record.model_dump_json()


def test_the_learning_rate_follows_the_recipe(
    tmp_path: Path, train_linear: TrainLinear, softmax_regression
):
    stepper = softmax_regression()
    train_linear(tmp_path, stepper=stepper, epochs=2, lr=0.5, lr_drops=(1,), checkpoint_every=99)
    assert stepper.rates == [0.5, 0.5 * 0.1]


def test_the_learning_rate_may_fall_in_the_middle_of_an_epoch(
    tmp_path: Path, train_linear: TrainLinear, softmax_regression, result: Result
):
    stepper = softmax_regression()
    settings = {"epochs": 2, "lr": 0.5, "lr_drops": (0.5, 1.4), "checkpoint_every": 99}
    record = train_linear(tmp_path / "whole", stepper=stepper, **settings)
    assert stepper.rates == [0.5, 0.5 * 0.1, 0.5 * 0.1, 0.5 * 0.1**2]
    assert [epoch.lr for epoch in record.epochs] == [0.5 * 0.1, 0.5 * 0.1**2]
    for after in (2, 5, 9):
        ours = softmax_regression()
        train_linear(
            tmp_path / "parts",
            stepper=ours,
            stop=lambda s=ours, n=after: s.updates >= n,
            **settings,
        )
    train_linear(tmp_path / "parts", **settings)
    assert result(tmp_path / "parts") == result(tmp_path / "whole")


def test_the_record_says_what_ran_where(tmp_path: Path, train_linear: TrainLinear):
    (session,) = train_linear(tmp_path).sessions
    assert {"antiparallel", "spec", "python", "numpy", "device"} <= session.versions.keys()
    assert session.command
    assert "cores" in session.host


@pytest.mark.parametrize("after", range(2 * STEPS))
def test_stopping_before_any_update_and_resuming_changes_nothing(
    tmp_path: Path, train_linear: TrainLinear, softmax_regression, result: Result, after: int
):
    train_linear(tmp_path / "whole")
    stepper = softmax_regression()
    record = train_linear(
        tmp_path / "parts", stepper=stepper, stop=lambda: stepper.updates >= after
    )
    assert record.status == "stopped"
    record = train_linear(tmp_path / "parts")
    assert record.status == "complete"
    assert [session.from_update for session in record.sessions] == [0, after]
    assert result(tmp_path / "parts") == result(tmp_path / "whole")


def test_a_stop_takes_effect_before_the_next_update(
    tmp_path: Path, train_linear: TrainLinear, softmax_regression
):
    stepper, seen = softmax_regression(), []
    train_linear(tmp_path, stepper=stepper, stop=lambda: stepper.updates == 3, watch=seen.append)
    assert stepper.updates == 3
    assert seen[-1].updates == 3


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(
    tmp_path: Path, train_linear: TrainLinear, softmax_regression
):
    record = train_linear(tmp_path, stepper=softmax_regression(poison=STEPS + 3))
    assert record.status == "diverged"
    assert len(record.epochs) == 1
    checkpoint = RunFolder(tmp_path).load()
    assert checkpoint.position.updates == STEPS + 2
    assert record.diverged_at == STEPS + 3


def test_no_update_follows_from_a_loss_that_is_not_finite(
    tmp_path: Path, train_linear: TrainLinear, softmax_regression
):
    stepper = softmax_regression(poison=3)
    train_linear(tmp_path, stepper=stepper)
    assert stepper.updates == 3
    assert np.isfinite(stepper.weight).all()


def test_weights_that_are_not_finite_are_not_saved_though_every_loss_was(
    tmp_path: Path, train_linear: TrainLinear, softmax_regression
):
    class Overflowing(softmax_regression):
        def state(self):
            state = super().state()
            return state | ({"weight": state["weight"] * np.inf} if self.updates == STEPS else {})

    record = train_linear(tmp_path, stepper=Overflowing())
    assert record.status == "diverged"
    assert record.diverged_at == STEPS - 1
    assert not record.epochs
    checkpoint = RunFolder(tmp_path).load()
    assert checkpoint.position.updates == STEPS - 2


def test_the_loss_of_every_update_is_kept(tmp_path: Path, train_linear: TrainLinear):
    record = train_linear(tmp_path)
    losses = RunFolder(tmp_path).read_losses()["loss"]
    assert len(losses) == 2 * STEPS
    for epoch in record.epochs:
        mean = np.mean(losses[STEPS * epoch.epoch : STEPS * (epoch.epoch + 1)])
        assert mean == pytest.approx(epoch.train["loss"], rel=1e-14)


def test_an_epoch_of_a_given_length_goes_on_with_the_pictures_where_the_last_one_ended(
    tmp_path: Path, train_linear: TrainLinear, softmax_regression, result: Result
):
    settings = {"epochs": 4, "steps_per_epoch": 4, "lr": 0.5, "lr_drops": (2,)}
    stepper = softmax_regression()
    record = train_linear(tmp_path / "whole", stepper=stepper, **settings)
    assert record.status == "complete"
    assert len(record.epochs) == 4
    order = [
        batch.labels
        for number, stop in ((0, STEPS), (1, STEPS), (2, 4))
        for batch in digits().train_batches(
            seed=7, epoch=number, start=0, stop=stop, batch_size=200
        )
    ]
    assert all((ours == labels).all() for ours, labels in zip(stepper.seen, order, strict=True))
    assert [epoch.lr for epoch in record.epochs] == [0.5, 0.5, 0.5 * 0.1, 0.5 * 0.1]
    for after in (2, 5, 6, 11):
        ours = softmax_regression()
        train_linear(
            tmp_path / "parts",
            stepper=ours,
            stop=lambda s=ours, n=after: s.updates >= n,
            **settings,
        )
    train_linear(tmp_path / "parts", **settings)
    assert result(tmp_path / "parts") == result(tmp_path / "whole")


def test_an_epoch_may_be_longer_than_a_pass_through_the_pictures(
    tmp_path: Path, train_linear: TrainLinear
):
    record = train_linear(tmp_path, epochs=1, steps_per_epoch=2 * STEPS + 1, checkpoint_every=99)
    assert len(RunFolder(tmp_path).read_losses()["loss"]) == 2 * STEPS + 1
    assert record.epochs[0].train["loss"] > 0


def test_progress_is_told_after_every_round(tmp_path: Path, train_linear: TrainLinear):
    seen: list[Progress] = []
    record = train_linear(tmp_path, watch=seen.append)
    told = [progress.updates for progress in seen]
    assert told == sorted(told)
    assert set(told) >= set(range(0, 2 * STEPS + 1, 2))
    assert seen[-1] == Progress(2 * STEPS, 2 * STEPS, record.epochs[-1].validation)
    assert seen[0].validation == {}


def test_a_number_that_does_not_exist_survives_the_record(
    tmp_path: Path, train_linear: TrainLinear
):
    train_linear(tmp_path)
    kurtosis = RunFolder(tmp_path).read_record().epochs[0].diagnostics["fc"].kurtosis
    assert kurtosis != kurtosis


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(
    tmp_path: Path, train_linear: TrainLinear
):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(SpecError, match="new or empty folder"):
        train_linear(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path, train_linear: TrainLinear):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match="new or empty folder"):
        train_linear(tmp_path / "file")


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path):
    program = (
        "import sys; from pathlib import Path\n"
        "from antiparallel.benchmarks.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).held(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(SpecError, match=f"process {holder.pid} "), RunFolder(tmp_path).held():
        pass
    holder.kill()
    holder.communicate()
    with RunFolder(tmp_path).held():  # a killed process holds nothing
        pass


def test_a_record_of_another_version_is_refused(tmp_path: Path, train_linear: TrainLinear):
    train_linear(tmp_path)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    with pytest.raises(SpecError, match=r"version.*Received"):
        RunFolder(tmp_path).read_record()


def test_the_loop_and_the_report_import_no_framework():
    program = (
        "import sys, antiparallel.benchmarks.commands.app, antiparallel.benchmarks.loop\n"
        "print(sorted({'torch', 'keras', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout == "[]\n", answer.stderr
