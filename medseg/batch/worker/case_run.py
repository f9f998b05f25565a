"""One case the whole way: read, compute, write. Whatever goes wrong with it becomes a failed result that is written."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.batch.records.case import Case
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import CaseResult, Inputs
from medseg.batch.records.results import close_folder, open_folder, paths_of, read_inputs, seen_inputs, signature_of
from medseg.batch.worker.checks import checks_of
from medseg.batch.worker.failures import (
    InputChangedError,
    InputGoneError,
    failure_of,
    is_of_all_cases,
    is_of_the_output,
    missing_file,
    passing_cause,
)
from medseg.batch.worker.memory_use import peak_bytes, reset_peak
from medseg.batch.worker.messages import STAGES, Stage
from medseg.batch.worker.privacy import failure_sentence, findings_without_paths
from medseg.batch.worker.work import ComputedCase, ReadCase, Work
from medseg.core.errors import MedsegError, OutputError
from medseg.core.finding import Finding, Severity
from medseg.core.provenance import InputRecord
from medseg.io.atomic import remove_tree, write_bytes
from medseg.io.file_report import contrast_findings
from medseg.io.read import read_files
from medseg.method.settings import RunSettings
from medseg.outputs.run_folder import default_formats, write_numbers, write_result
from medseg.pipeline import Result, apply, package_versions, prepare

_DRAWING_ERRORS = (ImportError, ArithmeticError, LookupError, ValueError, TypeError, RuntimeError)
_BURNED_IN = "BURNED_IN_TEXT"
RETRY_AFTER_S = (0.5, 2.0, 5.0)  # a share that stumbles is back within seconds, or not soon


class CaseRunner:
    """Runs cases by one plan, as many as come; pipeline, versions and models are looked up once.

    `root` is the folder that `Case.files` lie below, `token` names what is written before it has its name: one for each
    writer. `run` does a case; `look`, `read`, `compute` and `write` are its parts, and `step` does one of them with
    whatever goes wrong kept for the result. Raises PipelineError for a faulty pipeline.
    """

    def __init__(self, plan: Plan, root: Path, layout: Layout, *, settings: RunSettings | None = None, token: str) -> None:
        self.plan, self.root, self.layout, self.token = plan, Path(root), layout, token
        given = settings or RunSettings()
        self.settings = given if given.kept is not None else replace(given, kept={})
        self._steps = prepare(plan.pipeline)
        self._versions = package_versions()

    def run(self, case: Case, attempt: int = 1) -> CaseResult:
        """Run a case and return its result, which is written: "done", or "failed" with code and reason.

        Raises OutputError where the output folder takes no more, what is the fault of every case alike (PipelineError,
        MissingDependencyError, most of ModelError) and KeyboardInterrupt; nothing of the case is left then.
        """
        work = Work(case, attempt)
        for stage in STAGES:
            self.step(work, stage)
        assert work.result is not None  # the last stage gives it or raises
        return work.result

    def step(self, work: Work, stage: Stage) -> None:
        """Do one stage of a case; a failure of the case is kept in `work` until the last stage writes it. Raises as `run`."""
        if stage == "write":
            work.result = self._written(work)
            return
        if work.failure is not None:
            return
        begin = time.perf_counter()
        try:
            if stage == "read":
                work.inputs = self.look(work.case)
                work.read = self.read(work.case, work.inputs)
            else:
                read, work.read = work.read, None
                assert read is not None  # reading came before, and did not fail
                work.computed = self.compute(read)
        except KeyboardInterrupt:
            raise
        except BaseException as err:
            if stage == "compute" and is_of_all_cases(err):
                raise
            self._note_failure(work, err)
            work.seconds[stage] = _since(begin)

    def look(self, case: Case) -> Inputs:
        """Return what a case is to be made of: hash, size and signature of its files. Raises InputGoneError, UnreadableFileError."""
        files = paths_of(case, self.root)
        return self._patiently(case, lambda: read_inputs(files))

    def read(self, case: Case, inputs: Inputs | None = None) -> ReadCase:
        """Read the scan of a case.

        Raises what `medseg.read` raises, InputChangedError and InputGoneError where its files are not what they were when
        `look` hashed them.
        """
        begin = time.perf_counter()
        inputs = inputs or self.look(case)
        files = paths_of(case, self.root)
        try:
            volume = self._patiently(case, lambda: read_files(files, self.plan.reading))
        except MedsegError as err:
            self._check_unchanged(case, files, inputs)
            raise err
        self._check_unchanged(case, files, inputs)
        findings = findings_without_paths((*volume.findings, *contrast_findings(volume)), case, self.root)
        return ReadCase(case, replace(volume, findings=findings), inputs, _since(begin))

    def compute(self, read: ReadCase) -> ComputedCase:
        """Segment and measure a scan. Raises what `pipeline.apply` raises."""
        begin = time.perf_counter()
        reset_peak()
        source = read.volume.source
        record = InputRecord("scan", source.format if source else "memory", read.inputs.sha256, read.inputs.file_count)
        pipeline, settings = self.plan.pipeline, self.settings
        result = apply(pipeline, read.volume, settings=settings, inputs=[record], steps=self._steps, versions=self._versions)
        checks = checks_of(result.label_map, result.table)
        return ComputedCase(read.case, read.inputs, result, checks, {"read": read.seconds, "compute": _since(begin)})

    def write(self, computed: ComputedCase, attempt: int = 1) -> CaseResult:
        """Write the folder of a case and return its result. Raises OutputError; nothing of the case is left then."""
        begin = time.perf_counter()
        case, result = computed.case, computed.result
        folder = open_folder(self.layout, case.case_id, self.token)
        finding = self._write_files(folder, result)
        written = CaseResult(
            case.case_id,
            "done",
            self.plan.key,
            key=self.plan.case_key(computed.inputs.sha256),
            inputs=computed.inputs,
            modality=result.volume.modality,
            attempts=attempt,
            device=result.provenance.device,
            seconds={**computed.seconds, "write": _since(begin)},
            peak_memory_bytes=peak_bytes(),
            checks=computed.checks,
            findings=tuple(one.to_dict() for one in (*result.findings, *finding)),
        )
        return close_folder(self.layout, written, self.token)

    def _write_files(self, folder: Path, result: Result) -> Sequence[Finding]:
        formats, reading = self.plan.formats or default_formats(result.volume), self.plan.reading
        if self.plan.pictures == "report":
            write_result(result, folder, formats=formats, overwrite=False, reading=reading)
        else:
            write_numbers(result, folder, formats=formats, reading=reading)
        return () if self.plan.pictures == "none" else _write_thumbnail(folder, result)

    def _written(self, work: Work) -> CaseResult:
        """Write what became of a case: its outputs, or the reason why there are none."""
        computed, work.computed = work.computed, None
        if work.failure is None and computed is not None:
            begin = time.perf_counter()
            try:
                return self.write(computed, work.attempt)
            except KeyboardInterrupt:
                raise
            except BaseException as err:
                if is_of_the_output(err):
                    raise _as_output_error(err) from err
                work.seconds = {**computed.seconds, "write": _since(begin)}
                self._note_failure(work, err)
            finally:
                remove_tree(self.layout.temporary(work.case.case_id, self.token))
        return self._write_failure(work)

    def _note_failure(self, work: Work, err: BaseException) -> None:
        code, text = failure_of(err)
        work.failure = code, failure_sentence(code, text, work.case, self.root)
        work.findings = findings_without_paths(tuple(getattr(err, "findings", ())), work.case, self.root)
        work.read = work.computed = None
        if work.inputs is None:
            work.inputs = seen_inputs(paths_of(work.case, self.root))

    def _write_failure(self, work: Work) -> CaseResult:
        assert work.failure is not None
        code, message = work.failure
        sha256 = work.inputs.sha256 if work.inputs is not None else ""
        failed = CaseResult(
            work.case.case_id,
            "failed",
            self.plan.key,
            key=self.plan.case_key(sha256) if sha256 else "",
            code=code,
            message=message,
            inputs=work.inputs,
            modality=work.case.modality,
            attempts=work.attempt,
            seconds=work.seconds,
            peak_memory_bytes=peak_bytes(),
            findings=tuple(finding.to_dict() for finding in work.findings),
        )
        open_folder(self.layout, work.case.case_id, self.token)
        return close_folder(self.layout, failed, self.token)

    def _patiently(self, case: Case, read: Any) -> Any:
        """Read, and again after a while where a disk or network stumbled; a file that is gone is said by its number."""
        for wait in (*RETRY_AFTER_S, None):
            try:
                return read()
            except (MedsegError, OSError) as err:
                if missing_file(err):
                    raise self._gone(case) from err
                if wait is None or passing_cause(err) is None:
                    raise
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")  # pragma: no cover

    def _gone(self, case: Case) -> InputGoneError:
        missing = [number for number, file in enumerate(paths_of(case, self.root), 1) if not file.exists()]
        which = f"file {missing[0]} of {len(case.files)} is" if missing else "one of its files was"
        return InputGoneError(f"{which} not there when it was to be read: look whether the folder is still connected and run again")

    def _check_unchanged(self, case: Case, files: Sequence[Path], inputs: Inputs) -> None:
        try:
            if signature_of(files) == inputs.signature:
                return
        except OSError as err:
            raise self._gone(case) from err
        raise InputChangedError("its files changed while they were read: wait until they are copied, and run again")


def _write_thumbnail(folder: Path, result: Result) -> Sequence[Finding]:
    """Write the picture of the contact sheet, but for scans with text in their pixels; a case is not lost because it cannot be drawn."""
    if any(finding.code == _BURNED_IN for finding in result.findings):
        text = "text is burned into the pixels and may name the patient: the contact sheet shows no picture of this case"
        return [Finding("NO_THUMBNAIL", Severity.INFO, text)]
    try:
        draw = importlib.import_module("medseg.reporting.thumbnail").thumbnail_png
        picture = draw(result.volume, result.label_map, result.table)
    except (MedsegError, *_DRAWING_ERRORS) as err:
        text = f"the picture for the contact sheet could not be drawn ({type(err).__name__})"
        return [Finding("NO_THUMBNAIL", Severity.INFO, text)]
    write_bytes(folder / "thumbnail.png", picture)
    return ()


def _as_output_error(err: BaseException) -> OutputError:
    """Return the error without the name of the folder in which it happened: that one is gone."""
    if isinstance(err, OSError) and err.strerror:
        reason = err.strerror
    else:
        cause = err.__cause__
        reason = (cause.strerror if isinstance(cause, OSError) else None) or "what was written cannot be read back"
    return OutputError(f"the output folder cannot be written ({reason}): free some space or check the disk, and run again")


def _since(begin: float) -> float:
    return round(time.perf_counter() - begin, 4)
