"""The work behind `medseg evaluate`: one pair of files, or every pair of two folders, one in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import MedsegError, ParameterError, UnreadableFileError
from medseg.method.settings import Progress

if TYPE_CHECKING:
    from medseg.core.label_map import LabelMap
    from medseg.evaluation.bootstrap import Bootstrap
    from medseg.evaluation.cohort import CaseScores
    from medseg.evaluation.crosscheck import Checks
    from medseg.evaluation.overlap import Evaluation
    from medseg.io.evaluated_folders import CaseFiles

_NO_PREDICTION = "no prediction file of this name"


@dataclass
class Comparison:
    """What was asked for, and what the other packages say of the cases so far."""

    settings: Mapping[str, Any]
    names: Mapping[str, str]
    resample: bool
    image: str | None
    crosscheck: bool
    bootstrap: Bootstrap
    checks: Checks | None = None
    seen_names: set[str] = field(default_factory=set)

    def files(self, reference: str, prediction: str) -> tuple[dict[str, Any], int]:
        """Return the document of one pair, and the exit code."""
        for path in (reference, prediction):
            if not Path(path).exists():
                raise UnreadableFileError(f"{path}: no such file or folder")
        self._prepare()
        evaluation = self._compared(Path(reference), Path(prediction))
        self._check_names()
        return self._with_checks(evaluation.to_dict(self.bootstrap)), 0

    def folders(self, reference: str, prediction: str, progress: Progress) -> tuple[dict[str, Any], int]:
        """Return the document of all pairs, and the exit code: 1 where a case failed."""
        from medseg.evaluation.cohort import CaseStatus, CohortEvaluation
        from medseg.evaluation.detection import MatchRule
        from medseg.evaluation.score import SurfaceRule
        from medseg.io.evaluated_folders import pair_folders

        wanted = self.settings
        surface = SurfaceRule(tuple(wanted["tolerances_mm"]), wanted["percentile"], wanted["definition"]) if wanted["surfaces"] else None
        match = MatchRule.parse(wanted["match"]) if wanted["lesions"] else None
        self._prepare()
        pairs = pair_folders(reference, prediction)
        cases = []
        for number, files in enumerate(pairs.cases):
            progress("cases", number, len(pairs.cases))
            cases.append(self._case(files, Path(reference), Path(prediction)))
        if any(case.status is CaseStatus.COMPARED for case in cases):
            self._check_names()
        cohort = CohortEvaluation(tuple(cases), surface, match, pairs.surplus, pairs.ignored, (), self.bootstrap)
        return self._with_checks(cohort.to_dict()), 1 if cohort.named(CaseStatus.FAILED) else 0

    def _prepare(self) -> None:
        if self.crosscheck:
            from medseg.evaluation.crosscheck import Checks

            self.checks = Checks.start()

    def _compared(self, reference: Path, prediction: Path) -> Evaluation:
        """Read and score one pair."""
        from medseg.evaluation.cohort import with_findings
        from medseg.evaluation.overlap import evaluate
        from medseg.io.evaluated import read_pair

        pair = read_pair(reference, prediction, image=self.image, resample=self.resample)
        theirs = self._renamed(pair.prediction)
        evaluation = evaluate(pair.reference, theirs, **self.settings)
        if self.checks is not None:
            self.checks.add(pair.reference, theirs, evaluation)
        return with_findings(evaluation, pair.findings)

    def _renamed(self, layers: Sequence[LabelMap]) -> Sequence[LabelMap]:
        if not self.names:
            return layers
        from medseg.evaluation.segment_pairs import renamed

        for layer in layers:
            for segment in layer.segments:
                self.seen_names |= {segment.label, str(segment.number)}
        return renamed(layers, self.names)

    def _check_names(self) -> None:
        """A name that no prediction has is a mistake of the command line."""
        unknown = sorted(set(self.names) - self.seen_names)
        if unknown:
            known = ", ".join(sorted(self.seen_names)[:20]) or "no segment"
            raise ParameterError(f"--map: no prediction has a segment {', '.join(map(repr, unknown))}; there are: {known}")

    def _case(self, files: CaseFiles, reference: Path, prediction: Path) -> CaseScores:
        """Score one case of a folder; what is wrong with it becomes its row."""
        from medseg.evaluation.cohort import CaseScores, CaseStatus

        named = (
            files.reference.relative_to(reference).as_posix() if files.reference else "",
            files.prediction.relative_to(prediction).as_posix() if files.prediction else "",
        )
        problem = files.problem
        if files.reference and files.prediction and not problem:
            try:
                evaluation = self._compared(files.reference, files.prediction)
                return CaseScores(files.case, CaseStatus.COMPARED, "", evaluation, *named, evaluation.findings)
            except MedsegError as err:
                problem = str(err)
            except MemoryError:
                problem = "too little free memory for this case"
        if files.reference is None:
            return CaseScores(files.case, CaseStatus.FAILED, problem, None, *named)
        return self._unscored(files, problem, named)

    def _unscored(self, files: CaseFiles, problem: str, named: tuple[str, str]) -> CaseScores:
        """A case whose prediction is missing or cannot be compared: its reference still says what was to be found."""
        from medseg.evaluation.cohort import CaseScores, CaseStatus
        from medseg.evaluation.overlap import evaluate_without
        from medseg.io.evaluated import read_single

        if files.reference is None:
            return CaseScores(files.case, CaseStatus.FAILED, problem, None, *named)
        note = "" if files.prediction else _NO_PREDICTION
        try:
            evaluation = evaluate_without(read_single(files.reference), self.settings, note=note, failure=problem)
        except MedsegError as err:
            return CaseScores(files.case, CaseStatus.FAILED, problem or str(err), None, *named)
        except MemoryError:
            return CaseScores(files.case, CaseStatus.FAILED, problem or "too little free memory for this case", None, *named)
        status = CaseStatus.FAILED if problem else CaseStatus.MISSING
        return CaseScores(files.case, status, problem or note, evaluation, *named)

    def _with_checks(self, document: dict[str, Any]) -> dict[str, Any]:
        return document | ({"crosscheck": self.checks.to_list()} if self.checks is not None else {})
