"""The report tells all records in a folder."""

from pathlib import Path

import pytest

from antiparallel.benchmarks.speed.figures import draw_speed
from antiparallel.benchmarks.speed.record import write_record
from antiparallel.benchmarks.speed.report import write_report
from antiparallel.benchmarks.speed.summary import rows_of


def table_below(text: str, heading: str) -> list[list[str]]:
    lines = text.partition(heading)[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_rows_tell_ratios_rates_parts_and_memory(make_record):
    record = make_record(
        {"ss": 1.25, "biotorch:ss": 2.0}, {"plain": 200, "ss": 300}, time=0.5, batch=8, control=0.75
    )
    plain, ss, peer = rows_of(record)
    assert (plain.ratio.median, plain.memory_ratio, plain.examples) == pytest.approx((1, 1, 16))
    assert ss.ratio.n == ss.control.n == 9
    assert ss.control[:3] == pytest.approx((0.75, 0.75, 0.75))
    assert ss.ratio[:3] == pytest.approx((1.25, 1.25, 1.25))
    assert (ss.seconds, ss.examples) == pytest.approx((0.625, 12.8))
    assert ss.split == pytest.approx((0.3125, 0.15625, 0.15625))
    assert (ss.memory, ss.memory_ratio) == (300, 1.5)
    assert (peer.name, peer.memory, peer.memory_ratio) == ("biotorch:ss", None, None)


def test_memory_is_no_ratio_where_plain_backprops_own_cannot_be_seen(make_record):
    assert rows_of(make_record(memory={"plain": 0, "ss": 10}))[1].memory_ratio is None


def test_the_page_has_a_line_for_each_rule_and_says_where_numbers_come_from(
    tmp_path: Path, make_record
):
    write_record(make_record({"ss": 1.25, "fa": 1.5}, {"plain": 200, "ss": 300}), tmp_path)
    write_record(
        make_record({"ss": 1.125}, rounds=3, backend="keras", engine="jax", time=4.0), tmp_path
    )
    page, figure = write_report(tmp_path)
    assert (page.name, figure.name) == ("speed.md", "speed.png")
    heads, _, *rows = table_below(page.read_text(), "# Step time")
    told = [dict(zip(heads, row, strict=True)) for row in rows]
    names = [(row["framework"], row["rule"]) for row in told]
    assert names == [
        *(("keras-jax", f"`{rule}`") for rule in ("plain", "ss")),
        *(("torch", f"`{rule}`") for rule in ("plain", "ss", "fa")),
    ]
    assert told[1]["step / plain"] == "1.125, no interval"
    assert (told[1]["n"], told[1]["memory / plain"]) == ("3", "not measured")
    assert told[1]["forward / backward / update, ms"] == "2250 / 1120 / 1120"
    assert told[3] == {
        "case": "resnet18-32x224",
        "framework": "torch",
        "rule": "`ss`",
        "step / plain": "1.250 [1.250, 1.250]",
        "n": "9",
        "control / plain": "1.000 [1.000, 1.000]",
        "memory / plain": "1.500",
        "pictures / s": "25.6",
        "forward / backward / update, ms": "625 / 312 / 312",
    }
    origins = page.read_text().partition("## Where")[2]
    assert "`KERAS_BACKEND=jax " in origins
    assert "seed 0, n = 9 rounds" in origins
    assert "fake 1.0" in origins
    assert "load 0.5 to 1.5" in origins
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_records_of_one_command_are_told_together(tmp_path: Path, make_record):
    for batch in (8, 16):
        write_record(make_record(batch=batch), tmp_path)
    origins = write_report(tmp_path)[0].read_text().partition("## Where")[2]
    assert "torch resnet18-8x224, torch resnet18-16x224; seed 0" in origins


def test_collective_operations_are_told(tmp_path: Path, make_record):
    counts = {"plain": {"all_reduce": 2, "broadcast": 1}, "ss": {}}
    write_record(make_record(collectives=counts, way="ddp", parts=2), tmp_path)
    _, _, *rows = table_below(write_report(tmp_path)[0].read_text(), "## Collective")
    assert [row[2:] for row in rows] == [["`plain`", "2 all_reduce, 1 broadcast"], ["`ss`", "none"]]


def test_instructions_are_told_and_compared_with_plain_backprops(tmp_path: Path, make_record):
    counted = {"plain": 2_000_000, "control": 2_000_100, "ss": 2_050_000}
    record = make_record().model_copy(update={"instructions": counted})
    write_record(record, tmp_path)
    _, _, *rows = table_below(write_report(tmp_path)[0].read_text(), "## Instructions")
    assert [row[2:] for row in rows] == [
        ["`plain`", "2,000,000", "1.0000"],
        ["`control`", "2,000,100", "1.0001"],
        ["`ss`", "2,050,000", "1.0250"],
    ]


def test_growth_is_told_and_drawn_where_there_is_any(tmp_path: Path, make_record):
    for width in (8, 16):
        write_record(
            make_record({"ss": 1.25}, time=width**1.5, model="convnet", width=width), tmp_path
        )
    write_record(make_record({"ss": 1.25}), tmp_path)
    paths = write_report(tmp_path)
    assert [path.name for path in paths] == ["speed.md", "speed.png", "growth.png"]
    _, _, *rows = table_below(paths[0].read_text(), "## Growth")
    told = ["depth 8, batch 32, 224 px", "2", "size^1.50", "not measured"]
    assert rows[1] == ["width, 8 to 16", "torch", "`ss`", *told]


def test_the_figure_shows_every_ratio_and_where_noise_ends(make_record):
    records = [
        make_record({"ss": 1.25, "fa": 1.5}),
        make_record({"ss": 1.125}, rounds=3, backend="keras", engine="jax"),
    ]
    figure = draw_speed(records)
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["resnet18-32x224\ntorch", "resnet18-32x224\nkeras-jax"]
    assert [text.get_text() for text in axes.texts] == ["1.250", "1.500", "1.125"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["ss", "fa", "control"]
    # The control's band, which three rounds cannot have.
    (band,) = [band for band in axes.collections if band.get_label() == "control"]
    assert band.get_paths()[0].vertices[:, 0] == pytest.approx(1)


def test_many_records_are_drawn_side_by_side_in_their_order(make_record):
    records = [make_record({"ss": 1.25, "fa": 1.5}, batch=batch) for batch in range(1, 50)]
    panels = draw_speed(records).axes
    names = [[label.get_text() for label in axes.get_yticklabels()] for axes in panels]
    assert [len(found) for found in names] == [17, 16, 16]
    assert [*names[0], *names[1], *names[2]] == [
        f"resnet18-{batch}x224\ntorch" for batch in range(1, 50)
    ]
