"""What a paper's methods section must say of a run, written from its provenance."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medseg.core.provenance import Provenance, StepRecord
from medseg.reporting.wording import plain

_DOI = re.compile(r"(?:doi:\s*|https?://(?:dx\.)?doi\.org/)(10\.\d{4,9}/[^\s,;)]+)", re.IGNORECASE)
_LINK = re.compile(r"https?://[^\s,;)<>\"']+")


@dataclass(frozen=True)
class Reference:
    """A source as given, and its web address where it has one."""

    text: str
    address: str = ""


def methods_text(provenance: Provenance) -> str:
    """Return one paragraph that states software, steps with parameters, model and device.

    >>> step = StepRecord("threshold", "segment", {"lower": -500.0})
    >>> methods_text(Provenance({"medseg": "0.1.0"}, steps=(step,)))[:62]
    'Images were processed with medseg 0.1.0 (research software). T'
    """
    version = provenance.versions.get("medseg", "")
    sentences = [f"Images were processed with medseg {version}".rstrip() + " (research software)."]
    if provenance.steps:
        sentences.append("The steps were: " + "; ".join(_step(step) for step in provenance.steps) + ".")
    if provenance.model:
        model = provenance.model
        described = " ".join(plain(model[key]) for key in ("name", "version") if model.get(key)) or "a trained network"
        digest = str(model.get("sha256") or "")
        sentences.append(
            f"The network was {described}" + (f" (weights SHA-256 {digest[:12]}…)" if digest else "") + f", run on {provenance.device}."
        )
    sentences.append("A volume is the number of its voxels times the absolute determinant of the affine's 3×3 part.")
    return " ".join(sentences)


def references(provenance: Provenance) -> tuple[Reference, ...]:
    """Return the sources of the steps and of the model, each once, DOIs as links."""
    texts = [step.reference for step in provenance.steps]
    if provenance.model:
        texts += [str(provenance.model[key]) for key in ("reference", "citation") if provenance.model.get(key)]
    return tuple(_reference(text) for text in dict.fromkeys(text.strip() for text in texts) if text)


def _reference(text: str) -> Reference:
    doi, link = _DOI.search(text), _LINK.search(text)
    if doi:
        return Reference(text, f"https://doi.org/{doi.group(1).rstrip('.')}")
    return Reference(text, link.group(0).rstrip(".") if link else "")


def _step(step: StepRecord) -> str:
    parameters = ", ".join(f"{name.replace('_', ' ')} {plain(value)}" for name, value in step.parameters.items() if value is not None)
    return f"{step.method} ({parameters})" if parameters else step.method
