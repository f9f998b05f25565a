"""`medseg verify`: do the numbers of a cohort come out again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.terminal import DeviceName, Terminal, speaking

if TYPE_CHECKING:
    from medseg.batch.verify import Verification

_ALL = "all"


class _Sample(click.ParamType):
    """A number of cases from 1, or "all"."""

    name = "N|all"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number or "all"."""
        text = str(value).lower()
        if text == _ALL:
            return _ALL
        if text.isascii() and text.isdigit() and int(text) > 0:
            return int(text)
        self.fail(f"{value!r} is neither a number from 1 nor all", param, ctx)


@click.command()
@click.argument("output", type=click.Path(), metavar="OUT")
@click.option("--sample", type=_Sample(), default=5, show_default=True, help="How many done cases, drawn at random; all for every one.")
@click.option("--seed", type=click.IntRange(min=0), help="Draw the sample of that seed again; another one each time otherwise.")
@click.option("--folder", type=click.Path(), help="Where the scans lie now, if they were moved.")
@click.option("--device", type=DeviceName(), metavar="cpu|cuda[:n]", help="Where networks run; otherwise where each case ran.")
@speaking
def verify(output: str, sample: int | str, seed: int | None, folder: str | None, device: str | None, terminal: Terminal) -> int:
    """Run random done cases of OUT (of medseg batch) again, and compare labels voxel by voxel and every measurement.

    Exit code 1 where one does not come out the same, with the largest difference in ml and where it is.

    \b
    medseg verify out/
    medseg verify out/ --sample all --folder /new/place/of/the/scans
    """
    from medseg.batch.verify import verify as verify_cases

    with terminal.progress() as progress:
        found = verify_cases(
            Path(output),
            sample=sample if isinstance(sample, int) else None,
            seed=seed,
            folder=Path(folder) if folder else None,
            device=device,
            progress=progress,
        )
    _show(found, sample, terminal)
    terminal.document(found.to_dict())
    return 0 if found.is_identical else 1


def _show(found: Verification, sample: int | str, terminal: Terminal) -> None:
    from rich.markup import escape

    for case in found.cases:
        if case.outcome != "identical":
            terminal.show(f"[bold red]{case.outcome}[/] {case.case_id}: {escape(case.message)}")
    count = len(found.cases)
    fewer = f" (only {count} {'case is' if count == 1 else 'cases are'} done)" if isinstance(sample, int) and count < sample else ""
    terminal.show(f"[bold]{found.identical}/{count} identical[/]{fewer} (seed {found.seed})")
    worst = found.worst
    if worst is not None and worst.difference is not None:
        terminal.show(f"largest difference: case {worst.case_id}, {escape(str(worst.difference))}")
    if found.changed_libraries:
        terminal.show(f"libraries that have changed since the last run: {escape('; '.join(found.changed_libraries))}")
    if found.not_listed:
        terminal.show(f"{found.not_listed} results are of cases that the last search did not take: they are in no table and were not drawn")
    if found.unreadable:
        terminal.show(f"[bold red]{found.unreadable} results cannot be read[/] and were not drawn: medseg batch makes them anew")
    if found.of_other_plans:
        terminal.show(f"{found.of_other_plans} done cases are of another plan and were not drawn: medseg batch does them again")
