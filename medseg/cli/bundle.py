"""`medseg bundle`: a folder of wheels for a machine without a network."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.bundle_target import PLATFORMS, this_machine
from medseg.cli.terminal import Terminal, overwrite_option, speaking

if TYPE_CHECKING:
    from medseg.cli.bundle_target import Target


@click.command()
@click.option("-o", "--output", required=True, type=click.Path(), help="The folder of the bundle, which must not be there yet.")
@click.option("--extras", multiple=True, metavar="NAME", help="Also these extras, such as learned (networks) or report; repeatable.")
@click.option("--platform", "platform", type=click.Choice(list(PLATFORMS)), help="The machine it is for; default: one like this.")
@click.option("--python-version", "python", metavar="3.N", help="The Python it is for; default: this one's.")
@click.option("--extra-index", "indexes", multiple=True, metavar="URL", help="A further package index, such as that of torch for the CPU.")
@click.option("--from", "folder", type=click.Path(exists=True, file_okay=False), help="Take packages from this folder, not the network.")
@click.option("--constraint", type=click.Path(exists=True, dir_okay=False), help="Hold packages at the versions of this file.")
@overwrite_option
@speaking
def bundle(
    output: str,
    extras: tuple[str, ...],
    platform: str | None,
    python: str | None,
    indexes: tuple[str, ...],
    folder: str | None,
    constraint: str | None,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Make a folder from which medseg installs without a network: wheels, hashes, and the one command in INSTALL.txt.

    For networks on Linux give --extra-index https://download.pytorch.org/whl/cpu where no GPU is: the usual torch brings
    gigabytes of CUDA libraries. Every wheel is read, and checked to be all that the target needs, before the folder appears.
    """
    from medseg.cli.bundle_download import Source, fetch
    from medseg.cli.bundle_folder import WHEELS, appearing, check_free, verify, write_description
    from medseg.cli.bundle_wheel import write_own_wheel

    target = _target(platform, python)
    chosen = _checked_extras(extras)
    place = Path(output)
    check_free(place, overwrite)
    source = Source(indexes, Path(folder).resolve() if folder else None, Path(constraint).resolve() if constraint else None)
    with terminal.progress() as progress, appearing(place, overwrite) as temporary:
        own = write_own_wheel(temporary / WHEELS)
        wheels = fetch(temporary / WHEELS, own, chosen, target, source, progress)
        progress("checking", 0, 1)
        document = write_description(temporary, wheels, chosen, target)
        verify(temporary)
    megabytes = sum(one["bytes"] for one in document["files"]) / 1e6
    terminal.show(f"{len(wheels)} wheels, {megabytes:.0f} MB, for {target.platform} with Python {target.python}: {place}")
    terminal.show(f"on the other machine, in that folder: {document['command']}")
    terminal.document(document | {"folder": str(place)})


def _target(platform: str | None, python: str | None) -> Target:
    from medseg.cli.bundle_target import Target

    if python is not None and (re.fullmatch(r"3\.\d{1,2}", python) is None or int(python[2:]) < 10):
        raise click.UsageError(f"--python-version is 3.10 or newer, as in 3.12, not {python}")
    if platform is not None and python is not None:
        return Target(platform, python)
    here = this_machine()
    return Target(platform or here.platform, python or here.python)


def _checked_extras(extras: tuple[str, ...]) -> list[str]:
    names = [name.strip() for given in extras for name in given.split(",") if name.strip()]
    from medseg.cli.bundle_wheel import DEVELOPERS

    known = [name for name in _extras_there() if name not in DEVELOPERS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.UsageError(f"there is no extra {unknown[0]!r}; known: {', '.join(known)}")
    return sorted(set(names))


def _extras_there() -> list[str]:
    return importlib.metadata.metadata("medseg").get_all("Provides-Extra") or []
