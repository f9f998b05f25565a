"""A whole batch as one readable function: find the cases → say what runs → run them → count the cohort."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.batch.records.batch_file import changes, keep_salt, known_salt, read_batch, read_source, write_batch, write_source
from medseg.batch.records.environment import environment
from medseg.batch.records.events import Observe
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Pictures, Plan
from medseg.core.errors import InputError, UnsupportedFormatError
from medseg.io.options import ReadOptions
from medseg.method.settings import Progress, no_progress
from medseg.pipeline import Pipeline, package_versions, prepare

if TYPE_CHECKING:
    from medseg.batch.cases.find_cases import FoundCases
    from medseg.batch.cohort.write_cohort import CohortSummary
    from medseg.batch.run.run_options import RunOptions, Summary

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What a batch is asked to do: which scans below `folder`, with which pipeline, into which folder.

    `select` are rules for the series of a study, `listed` a table of cases to take instead. `rescan` searches again although a
    list is there, which runs that share a folder otherwise use. `identify` adds paths and patient IDs to the cohort table.
    """

    folder: Path
    output: Path
    pipeline: Pipeline
    formats: tuple[str, ...] = ()
    reading: ReadOptions = field(default_factory=ReadOptions)
    pictures: Pictures = "thumbnail"
    select: tuple[str, ...] = ()
    listed: Path | None = None
    rescan: bool = False
    identify: bool = False

    @property
    def layout(self) -> Layout:
        """Where everything of the batch lies."""
        return Layout(self.output)


@dataclass(frozen=True)
class BatchDone:
    """A run that came to its end: what became of the cases, what was found (None where an earlier list was used), the cohort."""

    summary: Summary
    found: Mapping[str, Any] | None
    cohort: CohortSummary | None


def run_batch(
    request: Request,
    options: RunOptions,
    *,
    execute: Callable[..., Summary] | None = None,
    observe: Observe,
    say: Say = lambda text: None,
    progress: Progress = no_progress,
) -> BatchDone:
    """Find the cases below a folder, run those that are not done, and write the cohort.

    `execute` runs the cases, as `run_cases` does (the default). `say` is told in a sentence what a person should know. A run that
    was stopped or handed in elsewhere, or one of several shards, writes no cohort: `medseg report` does. Raises InputError where
    there is nothing to run, BusyOutputError where another run has the folder, PipelineError, ModelError, OutputError.
    """
    plan = plan_of(request, options.model_folders)
    with _held(request.layout, options) as holding:
        return _run(request, plan, holding, execute=execute, observe=observe, say=say, progress=progress)


def _run(
    request: Request,
    plan: Plan,
    options: RunOptions,
    *,
    execute: Callable[..., Summary] | None,
    observe: Observe,
    say: Say,
    progress: Progress,
) -> BatchDone:
    from medseg.batch.cases.case_files import count_cases, read_cases
    from medseg.batch.cohort.review_file import read_review
    from medseg.batch.run.runner import of_shard, run_cases

    layout = request.layout
    shares = options.is_shared
    found = None
    _refuse_other_plan(layout, plan, options)  # before anything of the folder is changed
    read_review(layout.review)  # decisions that cannot be read are said now, not after a night of computing
    if request.rescan or not (shares and layout.case_list.is_file()):
        found = _find(request, layout, shares and not request.rescan, progress, say)
        _log_found(layout, found, options, observe)
    elif request.select or request.listed is not None:
        say("the cases are those of the list that is there: if --select or --cases is another than when it was made, add --rescan")
    _record(layout, plan, options, say)
    if "dcm" in plan.formats:
        say("segmentation.dcm names patient and study, as an archive needs it: cases/ is not to be shared with these files in it")
    total = count_cases(layout) if options.shard is None else sum(1 for _ in of_shard(read_cases(layout), options.shard))
    summary = (execute or run_cases)(
        plan, read_cases(layout), total=total, root=request.folder, layout=layout, options=options, observe=observe
    )
    if summary.stopped or options.shard is not None:
        return BatchDone(summary, found, None)
    return BatchDone(summary, found, _counted(request, plan, options, say))


def _counted(request: Request, plan: Plan, options: RunOptions, say: Say) -> CohortSummary | None:
    """Write the cohort; None where others are still at work, of whom the last one counts."""
    from medseg.batch.cohort.write_cohort import write_cohort
    from medseg.reporting.flow import CountsError

    try:
        return write_cohort(request.layout, identify=request.identify, plan_key=plan.key)
    except CountsError as err:
        if not options.join:
            raise
        say(str(err))
        return None


def plan_of(request: Request, model_folders: Sequence[Path] | None = None) -> Plan:
    """Return the plan of a request, with every parameter checked; raises PipelineError, ModelError, UnsupportedFormatError."""
    from medseg.batch.worker.models import models_of

    _check_formats(request.formats)
    prepare(request.pipeline)  # a slip in a parameter is said now, not by every case
    return Plan(
        pipeline=request.pipeline,
        version=package_versions().get("medseg", "unknown"),
        formats=tuple(request.formats),
        reading=request.reading,
        pictures=request.pictures,
        models=models_of(request.pipeline, model_folders),
    )


def _check_formats(formats: Sequence[str]) -> None:
    if not formats:
        return  # what follows loads scipy
    from medseg.outputs.run_folder import FORMATS

    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UnsupportedFormatError(f"a segmentation is not written as {unknown[0]}; known: {', '.join(FORMATS)}")


def search(request: Request, *, progress: Progress = no_progress) -> FoundCases:
    """Search the folder of a request as its run would."""
    from medseg.batch.cases.find_cases import find_cases

    return find_cases(
        request.folder,
        output=request.output,
        modality=request.pipeline.modality,
        select=request.select,
        listed=request.listed,
        salt=known_salt(request.layout),
        progress=lambda count: progress("files looked at", count, 0),
    )


def nothing_found(counts: Mapping[str, Any]) -> InputError:
    """Return the error for a folder without a case: what was looked for, and why the rest was left out."""
    left_out = counts.get("left_out") or {}
    reasons = "; ".join(f"{count} left out: {reason}" for reason, count in left_out.items())
    return InputError(
        f"nothing to run: {counts.get('files', 0)} files were looked at, and none belongs to a scan that can be run"
        f"{f' ({reasons})' if reasons else ''}. medseg looks for DICOM series, NIfTI, NRRD and MetaImage files, .zip and .tar archives; "
        "it recognises them by what they hold, not by their names. --dry-run shows every series with its reason"
    )


@contextlib.contextmanager
def _held(layout: Layout, options: RunOptions) -> Iterator[RunOptions]:
    """Hold the lock of the folder from the search to the cohort, but for runs that share it; a new folder left empty is removed."""
    from medseg.batch.run.run_lock import RunLock

    if options.is_shared or options.lock is not None:
        yield options
        return
    made = [folder for folder in (layout.state, layout.folder, *layout.folder.parents) if not folder.exists()]
    is_empty = False  # as long as the lock is not ours nothing here is ours to remove
    try:
        with RunLock(layout.state, timeout_s=options.claim_timeout_s) as lock:
            try:
                yield replace(options, lock=lock)
            finally:
                is_empty = layout.folder in made and not layout.case_list.exists()
                if is_empty:
                    lock.remove()
    finally:
        if is_empty:
            with contextlib.suppress(OSError):
                for folder in made:
                    folder.rmdir()


def _log_found(layout: Layout, found: Mapping[str, Any], options: RunOptions, observe: Observe) -> None:
    """Tell what was found; a run that has the folder for itself also logs it."""
    from medseg.batch.records.events import EventLog

    if options.is_shared:
        observe({"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": "found", **found})
        return
    log = EventLog(layout.events, observe)
    try:
        log.write("found", **found)
    finally:
        log.close()


def _find(request: Request, layout: Layout, first_wins: bool, progress: Progress, say: Say) -> dict[str, Any]:
    """Search, and save the list of cases; of shards that start together the first one's list stands."""
    with search(request, progress=progress) as found:
        counts = dict(found.counts)
        if not counts.get("cases"):
            raise nothing_found(counts)
        if not (first_wins and layout.case_list.is_file()):
            found.salt = keep_salt(layout, found.salt)  # of runs that start together one wins
            if read_source(layout) not in (None, request.folder):
                say("the scans lay in another folder before: cases that are not found here leave the tables, their results stay")
            found.save(layout)
            write_source(layout, request.folder)
    return counts


def _record(layout: Layout, plan: Plan, options: RunOptions, say: Say) -> None:
    """Write what runs now, and say what has changed since the last run; BusyOutputError where others run another plan here."""
    before, now = read_batch(layout), environment()
    _refuse_other_plan(layout, plan, options)  # one may have begun during the search
    if before is not None:
        plan_said, libraries_said = changes(before, plan, now)
        if plan_said:
            say(f"this folder holds another plan: cases of that one are done again ({'; '.join(plan_said)})")
        if libraries_said:
            say(f"libraries have changed since the last run; what is done stays as it is: {'; '.join(libraries_said)}")
    write_batch(layout, plan, before, now)


def _refuse_other_plan(layout: Layout, plan: Plan, options: RunOptions) -> None:
    """Raise BusyOutputError where others are at work in the folder by another plan."""
    from medseg.batch.run.run_lock import BusyOutputError, is_anyone_at_work

    before = read_batch(layout)
    if before is None or before.plan.key == plan.key:
        return
    if any(is_anyone_at_work(folder, timeout_s=options.claim_timeout_s) for folder in (layout.claims, layout.state)):
        differences, _ = changes(before, plan, {})
        raise BusyOutputError(
            f"another run works in this output folder by another plan ({'; '.join(differences) or 'its key differs'}): "
            "wait until it ends, or give another folder"
        )
