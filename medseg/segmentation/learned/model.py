"""Segmentation with a trained network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.provenance import Provenance, StepRecord
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams
from medseg.method.settings import RunSettings
from medseg.preprocessing.plan import PreparationPlan, plan_preparation, reversed_axes
from medseg.segmentation.learned.dependencies import versions
from medseg.segmentation.learned.description import ModelDescription
from medseg.segmentation.learned.device import resolve_device
from medseg.segmentation.learned.labels_back import labels_on_grid
from medseg.segmentation.learned.network import load_network
from medseg.segmentation.learned.normalisation import background_of, normalised, normaliser
from medseg.segmentation.learned.sliding_window import Prediction, Windows, predict
from medseg.segmentation.learned.store import ModelFolder, find_model

DEFAULT_MODEL = "ct-phantom"
_CUDA_BATCH = 2
# Every CT that shows air has voxels below this; a "CT" without any is likely to be no CT, or not in HU.
_AIR_HU = -200.0
_REFERENCE = "doi:10.1007/978-3-319-46723-8_49; MONAI, doi:10.48550/arXiv.2211.02701"


class ModelParams(MethodParams):
    """Parameters of `model`."""

    model: str = Field(DEFAULT_MODEL, description="Name of an installed model, or the folder of one")
    test_time_mirroring: bool = Field(False, description="Average over mirrored passes; only for models trained for it, and slower")
    force: bool = Field(False, description="Use the model on a scan of another modality than it was trained on")


@method("model", stage=Stage.SEGMENT, reference=_REFERENCE)
def model(volume: Volume, params: ModelParams, settings: RunSettings) -> LabelMap:
    """Segment a scan with a trained 3D network.

    The scan is brought to the orientation, spacing and intensities of the model; the network runs over it patch by patch;
    its outputs (not its labels) are interpolated back to the grid of the scan, where the largest wins. The label map
    says in its provenance which weights ran where. Repeated runs on one CPU give equal labels. Raises ModelError and
    its children; MissingDependencyError without the extra `learned`.
    """
    folder = find_model(params.model)
    description = folder.description
    findings = check_fit(volume, description, force=params.force)
    if params.test_time_mirroring and not description.mirror_axes:
        raise IncompatibleModelError(f"model {description.name!r} was not trained for mirroring (left and right differ): leave it off")
    device = resolve_device(settings.device)
    plan = plan_preparation(volume.geometry, description.spacing_mm, description.orientation, description.alignment)
    image, background = _network_input(volume, description, plan)
    windows = _windows(description, mirrored=params.test_time_mirroring, on_cuda=device.type == "cuda")
    prediction = predict(
        load_network(folder),
        image[None],
        windows,
        device,
        background=background,
        fall_back_to_cpu=settings.device == "auto",
        progress=settings.progress,
    )
    segments = description.label_segments()
    labels = labels_on_grid(
        prediction.logits,
        reversed_axes(plan.source_to_target()),
        volume.geometry.shape[::-1],
        [0, *(segment.number for segment in segments)],
        settings.progress,
    )
    findings += [Finding("LESS_MEMORY_THAN_WANTED", Severity.INFO, note) for note in prediction.notes]
    return LabelMap(
        labels.T,
        volume.geometry,
        segments,
        source=volume.source,
        findings=tuple(findings),
        provenance=_provenance(folder, params, prediction),
    )


def check_fit(volume: Volume, description: ModelDescription, *, force: bool = False) -> list[Finding]:
    """Return what is doubtful about using a model on a scan; raises IncompatibleModelError for what is wrong."""
    name = description.name
    if len(description.channels) != 1:
        raise IncompatibleModelError(
            f"model {name!r} needs {len(description.channels)} scans ({', '.join(description.channels)}) in one grid; one was given"
        )
    findings = []
    if volume.modality and volume.modality != description.modality:
        message = f"model {name!r} was trained on {description.modality}, this scan is {volume.modality}"
        if not force:
            raise IncompatibleModelError(f"{message}: choose another model, or set `force` and check every slice of the result")
        findings.append(Finding("MODALITY_FORCED", Severity.WARNING, message))
    elif not volume.modality:
        message = f"the file does not say what kind of scan it is; model {name!r} takes it for {description.modality}"
        findings.append(Finding("MODALITY_UNKNOWN", Severity.INFO, message))
    broken = int(np.count_nonzero(~np.isfinite(volume.array))) if volume.array.dtype.kind == "f" else 0
    if broken:
        findings.append(
            Finding("NON_FINITE_REPLACED", Severity.WARNING, f"{broken} voxels are no finite numbers: taken for outside the scan")
        )
    least = float(np.fmin.reduce(volume.array, axis=None))  # NaN only where every voxel is NaN
    if description.modality == "CT" and not least < _AIR_HU:
        message = f"the lowest intensity is {least:g}: a CT in HU has air near -1000, so this may be no CT or not in HU"
        findings.append(Finding("INTENSITIES_NOT_HU", Severity.WARNING, message, {"minimum": least}))
    return findings


def _network_input(volume: Volume, description: ModelDescription, plan: PreparationPlan) -> tuple[npt.NDArray[np.float32], float]:
    """The prepared scan (k,j,i), normalised, and the normalised background."""
    background = background_of(volume, description)
    rule = normaliser(volume, description)
    clean = volume.array
    if clean.dtype.kind == "f" and not np.isfinite(clean).all():
        clean = np.where(np.isfinite(clean), clean, background)
    # Clipping before interpolation keeps metal and padding values from bleeding into their neighbours.
    with np.errstate(over="ignore"):  # what float32 cannot hold is clipped next
        clipped = clean.astype(np.float32, order="F")
    np.clip(clipped, np.float32(rule[0]), np.float32(rule[1]), out=clipped)
    prepared = plan.prepare(volume.with_array(clipped), background)
    outside = normalised(np.array([background]), rule)
    return normalised(prepared.array.T, rule), float(outside[0])


def _windows(description: ModelDescription, *, mirrored: bool, on_cuda: bool) -> Windows:
    i, j, k = description.patch_size
    return Windows(
        patch_size=(k, j, i),
        overlap=description.overlap,
        batch_size=_CUDA_BATCH if on_cuda else 1,
        multiple=description.patch_multiple,
        mirror_axes=tuple(2 - axis for axis in description.mirror_axes) if mirrored else (),
    )


def _provenance(folder: ModelFolder, params: ModelParams, prediction: Prediction) -> Provenance:
    description = folder.description
    k, j, i = prediction.windows.patch_size
    return Provenance(
        versions=versions(),
        steps=(StepRecord("model", Stage.SEGMENT.value, {**params.model_dump(), "model": description.name}, _REFERENCE),),
        model={
            "name": description.name,
            "version": description.version,
            "title": description.title,
            "sha256": description.weights.sha256,
            "licence": description.licence.model_dump(),
            "intended_use": description.intended_use,
            "patch_size": [i, j, k],
            "overlap": prediction.windows.overlap,
            "cuda_precision": "float16 autocast" if prediction.device.startswith("cuda") else "float32",
        },
        device=prediction.device,
        notes=prediction.notes,
    )
