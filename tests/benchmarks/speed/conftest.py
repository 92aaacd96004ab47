"""A clock that only moves when it is told to, contenders that move it, and records of them."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from antiparallel.benchmarks.record import describe_process
from antiparallel.benchmarks.speed.builders import BUILDERS
from antiparallel.benchmarks.speed.case import Case
from antiparallel.benchmarks.speed.measure import contenders_of, measure
from antiparallel.benchmarks.speed.memory import Amount
from antiparallel.benchmarks.speed.record import SpeedRecord
from antiparallel.spec import SpecError


class Clock:
    """Seconds, as far as contenders have moved them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[tuple[str, str]] = []

    def __call__(self) -> float:
        return self.now


class Counter:
    """A contender whose forward, backward and update take known seconds."""

    def __init__(self, name: str, clock: Clock, seconds: tuple[float, float, float]) -> None:
        self.name = name
        self.clock = clock
        self.seconds = seconds

    def forward(self) -> None:
        self._take("forward", self.seconds[:1])

    def gradients(self) -> None:
        self._take("gradients", self.seconds[:2])

    def step(self) -> None:
        self._take("step", self.seconds)

    def update(self) -> None:
        self._take("update", self.seconds[2:])

    def describe(self) -> dict[str, str]:
        return {"fake": "1.0", "device": "clock"}

    def memory(self) -> int:
        return 3 * 10**9

    def _take(self, part: str, seconds: tuple[float, ...]) -> None:
        self.clock.log.append((self.name, part))
        self.clock.now += sum(seconds)


class CounterBuilder:
    """A builder of contenders, each of which takes as long as its rule's name has letters."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.open = False
        self.built: list[str] = []

    @contextmanager
    def joined(self, case: Case) -> Iterator[None]:
        self.open = True
        yield
        self.open = False

    def build(self, case: Case, rule: str) -> Counter:
        assert self.open
        if rule == "ss-batch":
            raise SpecError("Expected a rule that can be counted. Received: rule='ss-batch'")
        self.built.append(rule)
        return Counter(rule, self.clock, (len(rule) / 2, len(rule) / 4, len(rule) / 4))

    def collectives(self, case: Case, rule: str) -> dict[str, int]:
        return {"all_reduce": 2}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counter() -> type[Counter]:
    return Counter


@pytest.fixture
def counter_builder(monkeypatch: pytest.MonkeyPatch) -> CounterBuilder:
    """Stand in for the torch backend's builder in this process, and time by its clock."""
    builder = CounterBuilder()
    monkeypatch.setattr(
        "antiparallel.benchmarks.speed.run.measure", partial(measure, clock=builder.clock)
    )
    monkeypatch.setitem(sys.modules, "counter_builder", builder)  # type: ignore[arg-type]
    monkeypatch.setitem(BUILDERS, "torch", "counter_builder")
    return builder


@pytest.fixture
def make_record(clock: Clock) -> Callable[..., SpeedRecord]:
    """Return a record of steps that take known seconds, plain backprop's ``time``."""

    def make(
        step: Mapping[str, float] = {"ss": 1.25},
        memory: Mapping[str, int] = {},
        rounds: int = 9,
        time: float = 1.0,
        control: float = 1.0,
        backend: str = "torch",
        engine: str | None = None,
        collectives: Mapping[str, dict[str, int]] = {},
        **fields: Any,
    ) -> SpeedRecord:
        scales = {"plain": 1.0, "control": control, **step}
        contenders = {
            name: Counter(name, clock, (time * scale / 2, time * scale / 4, time * scale / 4))
            for name, scale in scales.items()
        }
        assert contenders.keys() == contenders_of(list(step)).keys()
        return SpeedRecord(
            case=Case.model_validate(fields),
            backend=backend,
            engine=engine,
            origin=describe_process({"fake": "1.0"}),
            load=(0.5, 1.5),
            rounds=rounds,
            timings=measure(contenders, rounds=rounds, seed=0, clock=clock),
            memory={
                name: tuple(Amount(before=100, peak=100 + own) for _ in range(3))
                for name, own in memory.items()
            },
            collectives=dict(collectives),
        )

    return make
