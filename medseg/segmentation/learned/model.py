"""Segmentation with a trained network of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from medseg.core.errors import IncompatibleModelError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.model_spread import ModelSpread
from medseg.core.provenance import Provenance, StepRecord
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams
from medseg.method.settings import RunSettings
from medseg.segmentation.learned.dependencies import versions
from medseg.segmentation.learned.kept_models import opened
from medseg.segmentation.learned.loading import open_model
from medseg.segmentation.learned.store import default_store, find_installed
from medseg.segmentation.learned.trained import ModelIdentity, Outcome, Request, TrainedModel

DEFAULT_MODEL = "ct-phantom"
_REFERENCE = "doi:10.1007/978-3-319-46723-8_49; MONAI, doi:10.48550/arXiv.2211.02701"


class ModelParams(MethodParams):
    """Parameters of `model`."""

    model: str = Field(DEFAULT_MODEL, description="Name of an installed model, or the folder of one")
    test_time_mirroring: bool | None = Field(
        None, description="Average over mirrored passes; only for models trained for it, and slower. Default: as the model's origin does"
    )
    force: bool = Field(False, description="Use the model on a scan of another modality than it was trained on")
    folds: list[int] | None = Field(None, description="Numbers of the folds to average; default: all the model has")
    step: float | None = Field(
        None, gt=0, le=1, description="Share of a patch from one patch to the next; default: as the model's origin does"
    )
    uncertainty: Literal["none", "mirror", "folds", "dropout"] = Field(
        "none", description="Passes whose spread is told: mirrored ones, folds, or several with dropout"
    )
    deterministic: bool = Field(
        False, description="Only steps that give the same result each time on the same machine, in float32; slower on CUDA"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the network; auto: float16 on CUDA, float32 on a CPU. bfloat16 can change a few border voxels"
    )
    compiled: bool = Field(
        False, description="Compile the network first (torch.compile): minutes of preparation, for many scans of one model"
    )
    backend: Literal["torch", "openvino"] = Field(
        "torch", description="What runs the network; openvino (its own extra) is faster on many CPUs, a few border voxels may differ"
    )
    trust_bundle: str | None = Field(
        None, description="SHA-256 of a MONAI bundle whose own code may run; only for a bundle you have read (medseg models info shows it)"
    )


@method("model", stage=Stage.SEGMENT, reference=_REFERENCE, several=True)
def model(volume: Volume | Sequence[Volume], params: ModelParams, settings: RunSettings) -> LabelMap:
    """Segment a scan with a trained 3D network.

    The scan is brought to the orientation, spacing and intensities of the model; the network runs over it patch by patch;
    its outputs (not its labels) are interpolated back to the grid of the scan, where the largest wins. Models come in
    medseg's format, as nnU-Net v2 folders and as MONAI bundles; several volumes are the channels of one scan. The label map
    says in its provenance which weights ran where. Repeated runs on one CPU give equal labels. Raises ModelError and
    its children; MissingDependencyError without the extra `learned`.
    """
    volumes = (volume,) if isinstance(volume, Volume) else tuple(volume)
    trained = _opened(params, settings)
    identity = _as_installed(params.model, trained.identity, settings)
    check_count(volumes, identity)
    findings = check_modality(volumes, identity, force=params.force)
    outcome = trained.segment(volumes, _request(params, settings))
    findings += [finding for finding in outcome.findings if (finding.code, finding.message) not in {(f.code, f.message) for f in findings}]
    return LabelMap(
        outcome.labels.T,
        volumes[0].geometry,
        outcome.segments,
        source=volumes[0].source,
        findings=tuple(findings),
        provenance=_provenance(identity, params, outcome),
        model_spread=_spread(outcome),
    )


def _opened(params: ModelParams, settings: RunSettings) -> TrainedModel:
    """The model, as it was left by the scan before where the settings keep models."""
    name = ("model", params.model, settings.model_folders, params.trust_bundle)
    return opened(settings, name, lambda: open_model(params.model, settings.model_folders, trusted_sha256=params.trust_bundle))


def check_count(volumes: Sequence[Volume], identity: ModelIdentity) -> None:
    """Raise IncompatibleModelError where a model needs another number of scans."""
    needed, given = len(identity.channels), len(volumes)
    if needed and given != needed:
        scans = "one scan" if needed == 1 else f"{needed} scans"
        where = "" if needed == 1 else " in one grid"
        were = "one was given" if given == 1 else f"{given} were given"
        raise IncompatibleModelError(f"model {identity.name!r} needs {scans} ({', '.join(identity.channels)}){where}; {were}")


def check_modality(volumes: Sequence[Volume], identity: ModelIdentity, *, force: bool = False) -> list[Finding]:
    """Return what is doubtful about the kind of scan for a model; raises IncompatibleModelError for another kind."""
    findings = []
    wanted, name = identity.modality, identity.name
    for modality in dict.fromkeys(volume.modality for volume in volumes) if wanted else ():
        if modality and modality != wanted:
            message = f"model {name!r} was trained on {wanted}, this scan is {modality}"
            if not force:
                raise IncompatibleModelError(f"{message}: choose another model, or set `force` and check every slice of the result")
            findings.append(Finding("MODALITY_FORCED", Severity.WARNING, message))
        elif not modality:
            message = f"the file does not say what kind of scan it is; model {name!r} takes it for {wanted}"
            findings.append(Finding("MODALITY_UNKNOWN", Severity.INFO, message))
    return findings


def _as_installed(name: str, identity: ModelIdentity, settings: RunSettings) -> ModelIdentity:
    """The model under the licence and intended use that were agreed to when it was installed."""
    folders = (default_store(),) if settings.model_folders is None else settings.model_folders
    installed = find_installed(name, folders)
    if installed is None:
        return identity
    return replace(identity, licence=installed.identity.licence, intended_use=installed.identity.intended_use)


def _request(params: ModelParams, settings: RunSettings) -> Request:
    return Request(
        device=settings.device,
        mirroring=params.test_time_mirroring,
        step=params.step,
        folds=tuple(params.folds) if params.folds else None,
        uncertainty=params.uncertainty,
        deterministic=params.deterministic,
        precision=params.precision,
        compile=params.compiled,
        backend=params.backend,
        progress=settings.progress,
    )


def _spread(outcome: Outcome) -> ModelSpread | None:
    found = outcome.uncertainty
    if found is None:
        return None
    volumes_ml = {segment.label: found.volumes_ml[segment.number] for segment in outcome.segments if segment.number in found.volumes_ml}
    return ModelSpread(found.passes, volumes_ml, None if found.entropy is None else found.entropy.T)


def _provenance(identity: ModelIdentity, params: ModelParams, outcome: Outcome) -> Provenance:
    record: dict[str, Any] = dict(outcome.record)
    device, notes = str(record.pop("device", "cpu")), tuple(record.pop("notes", ()))
    return Provenance(
        versions=versions(),
        steps=(StepRecord("model", Stage.SEGMENT.value, {**params.model_dump(), "model": identity.name}, _reference(identity)),),
        model={
            "name": identity.name,
            "version": identity.version,
            "title": identity.title,
            "kind": identity.kind,
            "sha256": identity.sha256,
            "licence": dict(identity.licence),
            "intended_use": identity.intended_use,
            **record,
        },
        device=device,
        notes=notes,
    )


def _reference(identity: ModelIdentity) -> str:
    if identity.kind != "nnunet":
        return _REFERENCE
    from medseg.segmentation.learned.nnunet.model import REFERENCE

    return REFERENCE
