"""TensorBoard events, derived from the record.

The whole file is written anew after each epoch, from the record alone. So the events of a run
that was killed and resumed are those of one that never stopped.
"""

from collections.abc import Iterator
from math import isnan
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from antiparallel.benchmarks.files import commit, draft_of, named_in_errors
from antiparallel.benchmarks.record import Epoch


def write_events(path: Path, epochs: tuple[Epoch, ...]) -> None:
    """Write an event file with one step per epoch.

    Args:
        path: The file; TensorBoard wants ``tfevents`` in its name.
        epochs: The record's epochs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    with named_in_errors(path):
        writer = RecordWriter(str(draft))
        for event in _events(epochs):
            writer.write(event.SerializeToString())
        writer.close()
    commit(draft, path)


def _events(epochs: tuple[Epoch, ...]) -> Iterator[Event]:
    started = epochs[0].ended - epochs[0].seconds if epochs else 0.0
    yield Event(wall_time=started, file_version="brain.Event:2")
    for epoch in epochs:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in _scalars(epoch)]
        yield Event(wall_time=epoch.ended, step=epoch.epoch + 1, summary=Summary(value=values))


def _scalars(epoch: Epoch) -> Iterator[tuple[str, float]]:
    yield "lr", epoch.lr
    for part, metrics in (("train", epoch.train), ("validation", epoch.validation)):
        for name, value in metrics.items():
            if not isnan(value):  # the precision of objects that there are none of
                yield f"{name}/{part}", value
    for layer, diagnostics in epoch.diagnostics.items():
        for name, value in diagnostics.model_dump().items():
            yield f"{name}/{layer}", value
