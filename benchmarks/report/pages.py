"""A report on disk: one self-contained HTML page, Markdown, JSON, and figures."""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from antiparallel.benchmarks.files import write_atomically
from antiparallel.benchmarks.report import words
from antiparallel.benchmarks.report.claims import EVIDENCE, Judgement, judge
from antiparallel.benchmarks.report.comparison import AGREEMENT, Comparison, Row, compare
from antiparallel.benchmarks.report.departures import OURS, Departure, departures
from antiparallel.benchmarks.report.figures import caption, draw_comparison, draw_figures
from antiparallel.benchmarks.report.gap import CRITERION as GAP_CRITERION
from antiparallel.benchmarks.report.gap import judge_gap
from antiparallel.benchmarks.report.looks import image
from antiparallel.benchmarks.report.measures import NOTES, Measure
from antiparallel.benchmarks.report.published import (
    METRICS,
    REFERENCES,
    WHAT,
    Beside,
    beside,
    references,
)
from antiparallel.benchmarks.report.results import Experiment, SettingResult

SPREAD = "mean +- sample standard deviation over seeds"


@dataclass(frozen=True)
class Provenance:
    """Where an experiment's numbers come from."""

    commands: list[str]
    seeds: list[int]
    overrides: dict[str, str]
    data: list[str]
    versions: list[str]
    machines: list[str]
    commits: list[str]
    seconds: float


@dataclass(frozen=True)
class Section:
    """One experiment of a report."""

    experiment: Experiment
    judgements: list[Judgement]
    criterion: str
    beside: list[Beside]
    departures: list[Departure] | None
    provenance: Provenance
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Report:
    """Every experiment, and every two of them that differ in the backend only."""

    sections: list[Section]
    comparisons: list[Comparison]


def make_report(experiments: Sequence[Experiment], pictures: Path | None = None) -> Report:
    """Judge, draw and compare experiments; figures only where there is a complete run.

    Args:
        experiments: The experiments.
        pictures: The folder of a detector's data set, to draw on its pictures what was found in
            them; None where it is not at hand.

    Raises:
        SpecError: A picture that is to be drawn is not in the folder.
    """
    sections = [_section(experiment, experiments, pictures) for experiment in experiments]
    return Report(sections, compare(experiments))


def _section(
    experiment: Experiment, experiments: Sequence[Experiment], pictures: Path | None
) -> Section:
    judgements, criterion = judge(experiment), EVIDENCE[experiment.task].criterion
    if experiment.task == "detection" and (gap := judge_gap(experiment, experiments)):
        judgements.append(gap)
        criterion += f" {GAP_CRITERION}"
    return Section(
        experiment,
        judgements,
        criterion,
        beside(experiment),
        departures(experiment),
        _provenance(experiment),
        draw_figures(experiment, pictures) if experiment.complete else {},
    )


def write_report(report: Report, out: Path) -> list[Path]:
    """Write a report.

    Args:
        report: What to report.
        out: The folder to write it to; made if need be, earlier reports in it are replaced.

    Returns:
        The files: the page first.
    """
    out.mkdir(parents=True, exist_ok=True)
    images: dict[Path, bytes] = {}

    def picture(figure: Figure, experiment: Experiment, slug: str, name: str) -> dict[str, str]:
        path = out / f"{slug}-{name}.png"
        images[path] = image(figure, "png")
        images[path.with_suffix(".svg")] = image(figure, "svg")
        data = base64.b64encode(images[path]).decode()
        return {"file": path.name, "data": data, "caption": caption(experiment.task, name)}

    sections = [
        {
            "section": section,
            "pictures": [
                picture(figure, section.experiment, _slug(section.experiment), name)
                for name, figure in section.figures.items()
            ],
        }
        for section in report.sections
    ]
    comparisons = [
        {
            "comparison": comparison,
            "picture": picture(
                draw_comparison(comparison),
                comparison.first,
                f"{_slug(comparison.first)}-and-{comparison.second.backend}",
                "comparison",
            ),
        }
        for comparison in report.comparisons
    ]
    shown = {"shown": sections, "comparisons": comparisons}
    files = {out / "report.html": _render("report.html.j2", shown).encode()}
    files[out / "report.md"] = _render("report.md.j2", shown).encode()
    files[out / "report.json"] = (json.dumps(as_json(report), indent=1) + "\n").encode()
    files |= images
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)


def as_json(report: Report) -> dict[str, Any]:
    """Return a report's numbers; numbers that do not exist, as a spread at n = 1, are null."""
    numbers = {
        "spread": SPREAD,
        "experiments": [
            {
                "tier": section.experiment.tier,
                "model": section.experiment.model,
                "backend": section.experiment.backend,
                "settings": [
                    _setting_json(result, section.experiment.measures)
                    for result in section.experiment.settings
                ],
                "published": [_beside_json(row, section.experiment) for row in section.beside],
                "differs_from_the_paper": section.departures
                and [asdict(departure) for departure in section.departures],
                "claims": [asdict(judgement) for judgement in section.judgements],
                "criterion": section.criterion,
                "provenance": asdict(section.provenance),
            }
            for section in report.sections
        ],
        "references": [
            {"name": r.name, "source": r.source, "setting": r.setting} for r in REFERENCES
        ],
        "agreement": AGREEMENT,
        "comparisons": [
            {
                "tier": comparison.first.tier,
                "model": comparison.first.model,
                "backends": [comparison.first.backend, comparison.second.backend],
                "settings": [_row_json(row, comparison.measure) for row in comparison.rows],
            }
            for comparison in report.comparisons
        ],
    }
    clean: dict[str, Any] = words.without_nan(numbers)
    return clean


def _beside_json(row: Beside, experiment: Experiment) -> dict[str, Any]:
    return {
        "setting": row.setting,
        "metric": row.measure.name,
        row.measure.key: asdict(row.ours),
        "references": {
            reference.name: asdict(cell)
            for reference, cell in zip(references(experiment.task), row.cells, strict=True)
        },
    }


def _row_json(row: Row, measure: Measure) -> dict[str, Any]:
    return {
        "setting": row.setting,
        measure.key: [asdict(row.first), asdict(row.second)],
        "difference_points": row.difference,
        "pooled_deviation": row.spread,
        "agreement": row.agreement,
    }


def _setting_json(result: SettingResult, measures: Sequence[Measure]) -> dict[str, Any]:
    return {
        "setting": result.setting,
        **{measure.key: asdict(result.spread(measure)) for measure in measures},
        **{f"{measure.key}_by_seed": result.by_seed(measure) for measure in measures},
        "seconds": asdict(result.seconds()),
        "diverged": result.diverged,
        "unfinished": result.unfinished,
    }


def _provenance(experiment: Experiment) -> Provenance:
    records = experiment.records
    sessions = [session for record in records for session in record.sessions]
    return Provenance(
        commands=_unique(session.command for session in sessions),
        seeds=sorted({record.seed for record in records}),
        overrides=records[0].overrides if records else {},
        data=_unique(_in_words(record.data) for record in records if record.data),
        versions=_unique(_in_words(session.versions) for session in sessions),
        machines=_unique(session.host for session in sessions),
        commits=_unique(session.commit or "installed, not a checkout" for session in sessions),
        seconds=sum(record.seconds for record in records),
    )


def _in_words(described: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in described.items())


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _render(template: str, shown: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("antiparallel.benchmarks.report", package_path=""),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        {name: getattr(words, name) for name in words.FOR_TEMPLATES},
        references=references,
        metrics=METRICS,
        notes=NOTES,
        published_what=WHAT,
        papers_gaps=OURS,
    )
    return environment.get_template(template).render(
        **shown, spread=SPREAD.replace("+-", "±"), agreement=AGREEMENT
    )


def _slug(experiment: Experiment) -> str:
    return f"{experiment.tier}-{experiment.model}-{experiment.backend}"
