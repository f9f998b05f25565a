"""What a paper must say of a run, written from its record: methods, results, citations and licences of exactly what ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medseg.core.geometry import Geometry
from medseg.core.provenance import Provenance, StepRecord
from medseg.reporting.bibliography import PACKAGES, Entry, bibtex, entries_in, entry_of
from medseg.reporting.licences import Licence, licences_of, used_packages
from medseg.reporting.number_check import Statement, check_statements
from medseg.reporting.wording import format_volume, plain

PARTS = {
    "grid": "the place of the structure on the voxel grid (partial volume)",
    "boundary": "the uncertain place of its boundary",
    "model": "the spread between networks",
}
_NAMES = {"numpy": "NumPy", "scipy": "SciPy", "numba": "Numba", "torch": "PyTorch", "monai": "MONAI", "nibabel": "NiBabel"}
_UNITS = {"mm": "mm", "mm3": "mm³", "ml": "ml", "hu": "HU", "percent": "%"}
_SHA = ("SHA-256",)
_FORMATS = {
    "dicom": "a DICOM series",
    "radiotherapy structure set (rtstruct)": "a DICOM RTSTRUCT",
    "segmentation (seg)": "a DICOM SEG",
}


@dataclass(frozen=True)
class MethodsText:
    """The text of a run: statements of the methods and of the results, the works they cite, the licences of what ran."""

    methods: tuple[Statement, ...]
    results: tuple[Statement, ...]
    citations: tuple[Entry, ...]
    licences: tuple[Licence, ...]

    @property
    def paragraph(self) -> str:
        """The methods as one paragraph, with citations as [@key]."""
        return " ".join(statement.text for statement in self.methods)

    @property
    def result(self) -> str:
        """The results as one paragraph."""
        return " ".join(statement.text for statement in self.results)

    @property
    def bibtex(self) -> str:
        """The cited works as a BibTeX file."""
        return bibtex(self.citations)

    def check(self) -> None:
        """Look every number up in the data it speaks of; raises ReportNumberError that names one that is not there."""
        check_statements((*self.methods, *self.results))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "text": self.paragraph,
            "results": self.result,
            "bibtex": self.bibtex,
            "citations": [{"key": entry.key, "text": entry.text, "doi": entry.doi or None} for entry in self.citations],
            "licences": [one.to_dict() for one in self.licences],
        }

    def markdown(self) -> str:
        """Return methods.md: text, results, licences and references; every number was looked up."""
        self.check()
        rows = [f"| {one.name} | {one.version} | {one.kind} | {one.licence} |" for one in self.licences]
        cited = [f"- [@{entry.key}] {entry.text}" for entry in self.citations]
        licences = ["## Licences of what ran", "", "| what | version | kind | licence |", "|---|---|---|---|", *rows]
        parts = ["## Methods", "", self.paragraph, "", "## Results", "", self.result, "", *licences, "", "## References", "", *cited]
        return "\n".join(parts) + "\n"


def methods_of(
    provenance: Provenance,
    document: Mapping[str, Any] | None = None,
    geometry: Geometry | None = None,
    case: str = "",
) -> MethodsText:
    """Return the text of a run from its provenance and the JSON document of its measurements.

    Every statement carries the part of the record that its numbers come from: `check` looks them up there. Nothing is said
    that the record does not hold. `case` stands before each result where several cases share a text.

    >>> step = StepRecord("otsu", "segment", {"classes": 2}, "doi:10.1109/TSMC.1979.4310076")
    >>> text = methods_of(Provenance({"medseg": "0.1.0"}, steps=(step,)))
    >>> text.check(); text.paragraph[:78]
    'Images were processed with medseg 0.1.0 (research software, not a medical devi'
    >>> [entry.key for entry in text.citations]
    ['otsu1979threshold']
    """
    record = provenance.to_dict()
    methods = [_software(provenance, record), *_inputs(provenance, record, document or {}, geometry)]
    if provenance.steps:
        listed = "; ".join(_step(step) for step in provenance.steps)
        methods.append(Statement(f"The steps were: {listed}.", record))
    methods += _network(provenance, record)
    methods += _measuring(document or {})
    return MethodsText(tuple(methods), _results(document or {}, case), _citations(provenance), licences_of(provenance))


def joined(texts: Sequence[MethodsText]) -> MethodsText:
    """Return the texts of several cases as one: what they share is said once."""
    methods: dict[str, Statement] = {}
    for text in texts:
        for n, statement in enumerate(text.methods):
            if n:  # what all share comes behind what is each case's own; the software stays first
                methods.pop(statement.text, None)
            methods[statement.text] = statement
    results = {(n, statement.text): statement for n, text in enumerate(texts) for statement in text.results}
    citations = {entry.key: entry for text in texts for entry in text.citations}
    licences = {(one.name, one.version): one for text in texts for one in text.licences}
    return MethodsText(tuple(methods.values()), tuple(results.values()), tuple(citations.values()), tuple(licences.values()))


def methods_text(provenance: Provenance) -> str:
    """Return the methods paragraph of a run alone, without citation marks in it."""
    return methods_of(provenance).paragraph


def references(provenance: Provenance) -> tuple[Entry, ...]:
    """Return the works a paper cites for a run: those of its steps and model, then those of its libraries; each once."""
    return _citations(provenance)


def _software(provenance: Provenance, record: Mapping[str, Any]) -> Statement:
    version = provenance.versions.get("medseg", "")
    others = [
        f"{_NAMES.get(name, name)} {provenance.versions[name]}{_mark([PACKAGES[name]])}"
        for name in used_packages(provenance)
        if name in PACKAGES
    ]
    text = f"Images were processed with medseg {version}".rstrip() + " (research software, not a medical device)"
    python = provenance.versions.get("python")
    text += f" under Python {python}" if python else ""
    text += f", which computed with {_listed(others)}" if others else ""
    return Statement(text + ".", record)


def _inputs(provenance: Provenance, record: Mapping[str, Any], document: Mapping[str, Any], geometry: Geometry | None) -> list[Statement]:
    statements = []
    for one in provenance.inputs:
        modality = f"{document['modality']} " if document.get("modality") and one.role == "scan" else ""
        files = f" of {one.file_count} files" if one.file_count > 1 else ""
        text = f"The {modality}{one.role} was read from {_FORMATS.get(one.format.lower(), f'a file of format {one.format}')}{files}"
        facts = [f"SHA-256 {one.sha256[:12]}…"] if one.sha256 else []
        grid: dict[str, Any] = {}
        if one.role == "scan" and geometry is not None:
            grid = {"shape": geometry.shape, "spacing_mm": geometry.spacing_mm}
            shape = " × ".join(str(n) for n in geometry.shape)
            facts.append(f"{shape} voxels of {' × '.join(f'{step:.4g}' for step in geometry.spacing_mm)} mm")
        text += f" ({'; '.join(facts)})" if facts else ""
        data = {"record": record, "grid": grid, "digest": one.sha256[:12], "modality": document.get("modality")}
        statements.append(Statement(text + ".", data, _SHA))
    codes = sorted({str(finding["code"]) for finding in document.get("findings") or () if finding.get("severity") in ("error", "warning")})
    if codes:
        statements.append(Statement(f"The checks of the geometry reported {_listed(codes)}.", codes))
    return statements


def _step(step: StepRecord) -> str:
    given = [parameter_text(name, value) for name, value in step.parameters.items() if value is not None]
    parameters = f" ({', '.join(given)})" if given else ""
    return f"{step.method}{parameters}{_mark(entries_in(step.reference))}"


def parameter_text(name: str, value: Any) -> str:
    """Return a parameter as a reader says it: the unit of its name stands behind the value.

    >>> parameter_text("sigma_mm", 1.5), parameter_text("lower", -500.0)
    ('sigma 1.5 mm', 'lower -500')
    """
    words, _, unit = name.rpartition("_")
    if unit in _UNITS and words and value is not None:
        return f"{words.replace('_', ' ')} {plain(value)} {_UNITS[unit]}"
    return f"{name.replace('_', ' ')} {plain(value)}"


def _network(provenance: Provenance, record: Mapping[str, Any]) -> list[Statement]:
    model = provenance.model
    if not model:
        return []
    described = " ".join(plain(model[key]) for key in ("name", "version") if model.get(key)) or "a trained network"
    digest = str(model.get("sha256") or "")
    text = (
        f"The network was {described}"
        + (f" (weights SHA-256 {digest[:12]}…)" if digest else "")
        + f", run on {_device(provenance.device)}."
    )
    data = {"record": record, "digest": digest[:12]}
    statements = [Statement(text, data, _SHA)]
    if model.get("intended_use"):
        statements.append(Statement(f"Its intended use: {plain(model['intended_use']).rstrip('.')}.", data))
    return statements


def _device(name: str) -> str:
    return "the CPU" if name == "cpu" else f"a GPU ({name})" if name.startswith("cuda") else name


def _measuring(document: Mapping[str, Any]) -> list[Statement]:
    text = "A volume is the number of its voxels times the absolute determinant of the affine's 3×3 part"
    parts = [name for name in PARTS if any(name in (row.get("volume_sd_ml") or {}) for row in document.get("segments") or ())]
    if parts:
        sources = _listed([PARTS[name] for name in parts])
        return [Statement(f"{text}. Its 95 % interval comes from {sources}, combined as standard deviations.", {}, ("95 %", "3×3"))]
    return [Statement(text + ".", {}, ("3×3",))]


def _results(document: Mapping[str, Any], title: str) -> tuple[Statement, ...]:
    """One statement a segment, each with its own row as data: a number of another segment would not be found there."""
    statements = []
    title = f"{title}, " if title else ""
    for row in document.get("segments") or ():
        label, volume, interval = str(row["label"]), row.get("volume_ml"), row.get("volume_interval_ml")
        if volume is None:
            statements.append(
                Statement(
                    f"{title}{label}: no volume ({row.get('status')}: {row.get('reason') or 'no reason given'}).",
                    {"row": row, "case": title},
                )
            )
            continue
        text = f"{title}{label}: {format_volume(volume)} ml"
        if interval:
            text += f" (95 % interval {format_volume(interval[0])} to {format_volume(interval[1])} ml)"
        if row.get("status") not in (None, "measured"):
            text += f", {str(row['status']).replace('_', ' ')}"
        statements.append(Statement(text + ".", {"row": row, "case": title}, ("95 %",)))
    return tuple(statements)


def _citations(provenance: Provenance) -> tuple[Entry, ...]:
    texts = [step.reference for step in provenance.steps]
    if provenance.model:
        texts += [str(provenance.model[key]) for key in ("reference", "citation") if provenance.model.get(key)]
    found = [entry for text in texts for entry in entries_in(text)]
    found += [entry for name in used_packages(provenance) if (entry := entry_of(name)) is not None]
    return tuple({entry.key: entry for entry in found}.values())


def _mark(entries: Sequence[Entry]) -> str:
    return f" [{'; '.join('@' + entry.key for entry in entries)}]" if entries else ""


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
