"""``python -m benchmarks [PART ...]``: run parts, print their tables, write them down."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.parts import PARTS, Options
from benchmarks.report import Calibration, Report, Surroundings, Watch, calibrate, remark, show, write_json
from enricher.build_info import described


def settings(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE as a mapping."""
    made = {}
    for text in given:
        name, equals, value = text.partition("=")
        part, _, setting = name.partition(".")
        if not equals or part not in PARTS:
            raise click.BadParameter(f"{text!r} is not PART.NAME=VALUE; parts: {', '.join(PARTS)}")
        if setting not in PARTS[part].settings:
            known = ", ".join(PARTS[part].settings) or "none"
            raise click.BadParameter(f"{part} has no setting {setting!r}; it has: {known}")
        made[name] = value
    return made


def listed() -> str:
    """Every part with what it measures and what can be set."""
    wide = max(map(len, PARTS))
    lines = []
    for name, part in PARTS.items():
        lines.append(f"  {name:{wide}}  {part.about}")
        lines += [f"  {'':{wide}}    {name}.{setting}: {what}" for setting, what in part.settings.items()]
    return "\n".join(lines)


@click.command(epilog="\b\nParts:\n" + listed())
@click.argument("names", nargs=-1, metavar="[PART]...")
@click.option("--quick", is_flag=True, help="The smallest run that still shows something.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write all to FILE.")
@click.option("--rounds", type=click.IntRange(1), help="Repetitions of each figure (default 3; quick 1).")
@click.option("--update", is_flag=True, help="Rewrite the committed limits (part guard).")
@click.option("--set", "given", multiple=True, callback=settings, metavar="PART.NAME=VALUE", help="Below.")
def main(
    names: tuple[str, ...],
    quick: bool,
    file: Path | None,
    rounds: int | None,
    update: bool,
    given: dict[str, str],
) -> None:
    """Run these parts of the benchmarks, or all of them, each on servers of its own."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise click.UsageError(f"no part {unknown[0]!r}; known parts: {', '.join(PARTS)}")
    options = Options(quick, rounds or (1 if quick else 3), update, given)
    reports: list[Report] = []
    calibrations: list[Calibration] = [calibrate()]
    around: list[Surroundings] = []
    click.echo(f"{described()}\n")
    for name in names or PARTS:
        watch = Watch()
        for report in PARTS[name].run(options):
            show(report)
            reports.append(report)
        around.append(watch.surroundings(name))
        calibrations.append(calibrate())
        click.echo(remark(around[-1], calibrations[-1]) + "\n")
        if file is not None:  # after each part, so that what was measured is not lost with a later one
            write_json(file, reports, calibrations, around)
    if any(report.failed for report in reports):
        raise SystemExit(1)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
