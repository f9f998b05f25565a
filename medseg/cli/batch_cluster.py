"""The options of `medseg batch` for clusters: a SLURM job array, or a pool of dask."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from medseg.batch.run.run_options import Summary

F = TypeVar("F", bound=Callable[..., Any])
Execute = Callable[..., "Summary"]

_ARGUMENTS = "medseg.batch.arguments"
_PREFIX = "cluster_"
_NAMES = ("slurm", "shards", "at_once", "options", "wait", "dask", "jobqueue", "jobs", "pool_options")
_FLAGS = ("--slurm", "--slurm-wait")
_VALUED = ("--slurm-shards", "--slurm-at-once", "--slurm-option")
# what a task of the array must not do again, or says where nobody reads it
_NOT_IN_TASKS = ("--rescan", "--json", "--json-events")
_DEFAULT_SHARDS = 8


class BatchCommand(click.Command):
    """A command that remembers its arguments as they were given, for the tasks of an array."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments, then parse them."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)


def cluster_options(function: F) -> F:
    """Add the options to a `BatchCommand`, which gets `execute`: what runs the cases instead of `run_cases`, or None."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(_PREFIX + name) for name in _NAMES}
        return function(*args, execute=_execute(given, click.get_current_context()), **kwargs)

    wrapped.__name__ = function.__name__
    wrapped.__doc__ = function.__doc__
    wrapped.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
    command: Any = wrapped
    for option in reversed([*_slurm_options(), *_dask_options()]):
        command = option(command)
    return command  # type: ignore[no-any-return]


def _slurm_options() -> list[Callable[[Any], Any]]:
    some = "An option for sbatch in its long form (--partition=gpu); repeatable."
    count = click.IntRange(min=1)
    return [
        _option("--slurm", "slurm", is_flag=True, help="Write a SLURM job array, submit it, and collect when it has ended."),
        _option("--slurm-shards", "shards", type=count, help=f"Tasks of the array; default {_DEFAULT_SHARDS}."),
        _option("--slurm-at-once", "at_once", type=count, help="Most tasks that run at once; default: as SLURM decides."),
        _option("--slurm-option", "options", multiple=True, metavar="OPTION", help=some),
        _option("--slurm-wait", "wait", is_flag=True, help="Wait until the cohort is written."),
    ]


def _dask_options() -> list[Callable[[Any], Any]]:
    some = "An option of dask-jobqueue (cores=4, memory=16GB, walltime=04:00:00, queue=long); repeatable."
    kinds = click.Choice(["slurm", "pbs", "lsf", "sge"])
    return [
        _option("--dask", "dask", metavar="ADDRESS", help="Run on the workers of this dask scheduler (tls://host:8786)."),
        _option("--dask-jobqueue", "jobqueue", type=kinds, help="Run on dask workers that are jobs of this scheduler."),
        _option("--dask-jobs", "jobs", type=click.IntRange(min=1), help="How many such jobs; default 1."),
        _option("--dask-option", "pool_options", multiple=True, metavar="NAME=VALUE", help=some),
    ]


def _option(flag: str, name: str, **settings: Any) -> Callable[[Any], Any]:
    return click.option(flag, _PREFIX + name, **settings)


def _execute(given: dict[str, Any], context: click.Context) -> Execute | None:
    """Return what runs the cases; raises click.UsageError for options that do not go together."""
    asked = [flag for flag, name in (("--slurm", "slurm"), ("--dask", "dask"), ("--dask-jobqueue", "jobqueue")) if given[name]]
    if len(asked) > 1:
        raise click.UsageError(f"{' and '.join(asked)} do not go together: give one of them")
    for flag, name, needs in (
        ("--slurm-shards", "shards", "slurm"),
        ("--slurm-at-once", "at_once", "slurm"),
        ("--slurm-option", "options", "slurm"),
        ("--slurm-wait", "wait", "slurm"),
        ("--dask-jobs", "jobs", "jobqueue"),
        ("--dask-option", "pool_options", "jobqueue"),
    ):
        if given[name] and not given[needs]:
            raise click.UsageError(f"{flag} belongs to {'--slurm' if needs == 'slurm' else '--dask-jobqueue'}")
    if asked and (context.params.get("shard") or context.params.get("join")):
        raise click.UsageError(f"{asked[0]} shares out the cases by itself: leave out --shard and --join")
    try:
        return _on_slurm(given, context) if given["slurm"] else _on_dask(given, context) if asked else None
    except ValueError as err:
        raise click.UsageError(str(err)) from err


def _on_slurm(given: dict[str, Any], context: click.Context) -> Execute:
    from medseg.batch.cluster.slurm import SlurmOptions
    from medseg.batch.cluster.slurm_run import SlurmRun, without_options

    arguments = without_options(context.meta[_ARGUMENTS], flags=(*_FLAGS, *_NOT_IN_TASKS), valued=_VALUED)
    options = SlurmOptions(given["shards"] or _DEFAULT_SHARDS, given["at_once"], tuple(given["options"]))
    identify = bool(context.params.get("identify"))
    return SlurmRun(arguments, options, Path(os.getcwd()), wait=given["wait"], identify=identify)


def _on_dask(given: dict[str, Any], context: click.Context) -> Execute:
    from medseg.batch.cluster.dask_clusters import DaskPool, device_of_pool

    device_of_pool(context.params.get("devices") or ("cpu",))
    options: dict[str, list[str]] = defaultdict(list)
    for entry in given["pool_options"]:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"--dask-option takes NAME=VALUE, such as memory=16GB, not {entry!r}")
        options[name.replace("-", "_")].append(value)
    settings = {name: tuple(values) for name, values in options.items()}
    pool = DaskPool(given["dask"] or "", given["jobqueue"], given["jobs"] or 1, settings)

    def execute(*args: Any, **kwargs: Any) -> Summary:
        from medseg.batch.cluster.dask_pool import run_cases_dask

        return run_cases_dask(*args, pool=pool, **kwargs)

    return execute
