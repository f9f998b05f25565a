"""The explicit ways on when a scan is read, as options that every reading command shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from medseg.io.options import ReadOptions

F = TypeVar("F", bound=Callable[..., Any])

ALL_VOLUMES = "all"


class _Spacing(click.ParamType):
    """Three lengths in mm, as I,J,K."""

    name = "I,J,K"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Return three numbers, or fail with what was given."""
        if isinstance(value, tuple):
            return value
        try:
            steps = tuple(float(part) for part in str(value).replace("x", ",").split(","))
        except ValueError:
            steps = ()
        if len(steps) != 3:
            self.fail(f"{value!r} is not three lengths in mm such as 0.98,0.98,3", param, ctx)
        return steps


class _VolumeNumber(click.ParamType):
    """A number from 0; "all" too where the command can take every volume."""

    def __init__(self, takes_all: bool) -> None:
        self.takes_all = takes_all
        self.name = "K|all" if takes_all else "K"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number or "all"."""
        if self.takes_all and str(value).lower() == ALL_VOLUMES:
            return ALL_VOLUMES
        if str(value).isascii() and str(value).isdigit():
            return int(value)
        self.fail(f"{value!r} is neither a number from 0{' nor all' if self.takes_all else ''}", param, ctx)


def _options(takes_all: str, many: bool) -> list[Callable[[Any], Any]]:
    which_volume = "Which volume of a 4D file or series, or colour, from 0" + (f"; all {takes_all}." if takes_all else ".")
    which_transform = click.Choice(["sform", "qform"])
    which_series = "Which DICOM series of a folder that holds several (its beginning is enough)."
    which_stack = "Which stack of a series: its number, largest, or a field (EchoTime=4.92)."
    # the names are prefixed: a method may have a parameter spacing_mm of its own
    return [
        *([] if many else [_option("--series", "series", metavar="UID", help=which_series)]),
        _option("--stack" if many else "--select", "select", metavar="WHAT", help=which_stack),
        _option(
            "--volume",
            "volume_index",
            type=_VolumeNumber(bool(takes_all)),
            help=which_volume,
        ),
        _option("--allow-gaps", "allow_gaps", is_flag=True, help="Read a stack with missing slices: the holes are interpolated."),
        _option("--spacing", "spacing_mm", type=_Spacing(), help="Voxel spacing in mm where the file gives none."),
        _option("--nifti-xform", "nifti_xform", type=which_transform, help="Which of two disagreeing NIfTI transforms holds."),
        _option("--assume-hu", "assume_hu", is_flag=True, help="Take stored CT values without rescale as Hounsfield units."),
        _option("--resample-mixed", "resample_mixed", is_flag=True, help="Bring slices of different pixel spacing onto one grid."),
    ]


def _option(flag: str, name: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(flag, _PREFIX + name, **settings)


def reading(*, takes_all: str = "", many: bool = False) -> Callable[[F], F]:
    """Add the reading options to a command, which gets them as `reading: ReadOptions`.

    With `takes_all`, which says what `--volume all` does, the command also gets `every_volume`: True for it. A command that reads
    `many` scans has no --series, and calls the choice of a stack --stack: its --select chooses among series.
    """

    def decorate(function: F) -> F:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(_PREFIX + name, None) for name in _NAMES}
            if takes_all:
                kwargs["every_volume"] = given["volume_index"] == ALL_VOLUMES
                given["volume_index"] = None if kwargs["every_volume"] else given["volume_index"]
            return function(*args, reading=_built(given), **kwargs)

        wrapped.__name__ = function.__name__
        wrapped.__doc__ = function.__doc__
        wrapped.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        command: Any = wrapped
        for option in reversed(_options(takes_all, many)):
            command = option(command)
        return command  # type: ignore[no-any-return]

    return decorate


_PREFIX = "reading_"
_NAMES = ("series", "select", "volume_index", "allow_gaps", "spacing_mm", "nifti_xform", "assume_hu", "resample_mixed")


def _built(given: dict[str, Any]) -> ReadOptions:
    from medseg.core.errors import InputError
    from medseg.io.options import ReadOptions

    try:
        return ReadOptions(**given)
    except InputError as err:  # a value that cannot be meant is a mistake of the command line, not of the scan
        raise click.UsageError(str(err)) from err
