"""Designs that are measured beside the one in use."""

import pytest
import torch

from antiparallel.benchmarks.record import describe_process
from antiparallel.benchmarks.speed.designs import (
    WARM_UP,
    Question,
    answer,
    convolution,
    dense,
    drawing,
    forming,
    page_of,
    table_of,
)

QUESTIONS = [forming(8), dense(3, 16), dense(32, 16), convolution(2, 4, 5), drawing(8)]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.title)
def test_designs_give_the_same_numbers_or_say_that_they_do_not(question: Question) -> None:
    expected, *others = [design.act().double() for design in question.designs]
    for design, found in zip(question.designs[1:], others, strict=True):
        if not design.differs:
            # float32 sums of at most 36 products that are below 0.1
            assert torch.allclose(found, expected, rtol=2**-22, atol=36 * 0.1 * 2**-23), design.name


@pytest.mark.parametrize("question", QUESTIONS[:2], ids=lambda question: question.title)
def test_the_page_has_every_design_s_median_and_where_it_comes_from(question: Question) -> None:
    seconds = answer(question, rounds=2, seed=0)
    assert {len(taken) for taken in seconds.values()} == {2}
    page = page_of([table_of(question, seconds)], describe_process({"torch": "2"}), (0.5, 1.0), 2)
    assert all(f"| {design.name} | " in page for design in question.designs)
    assert "n = 2 rounds" in page
    assert "load 0.5 before and 1.0 after" in page


def test_every_round_runs_each_design_once_after_the_warm_up() -> None:
    question = dense(3, 16)
    calls: list[str] = []

    def counted(name: str) -> torch.Tensor:
        calls.append(name)
        return torch.zeros(())

    watched = Question(
        question.title,
        [
            design._replace(act=lambda name=design.name: counted(name))
            for design in question.designs
        ],
    )
    answer(watched, rounds=4, seed=0)
    names = sorted(design.name for design in question.designs)
    width = len(names)
    rounds = [sorted(calls[at : at + width]) for at in range(0, len(calls), width)]
    assert rounds == [names] * (4 + WARM_UP)
    assert calls[:width] != calls[width : 2 * width]
