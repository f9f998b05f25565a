"""medseg: CT and MR scans into volumes that a researcher can defend. Research software, not a medical device.

Public names load on first use, so that `import medseg` stays quick.

>>> import medseg
>>> " ".join(sorted(name for name in medseg.__all__ if name.islower() and not name.startswith("_")))
'agreement average change evaluate inspect lesions measure methods postprocess preprocess read read_label_map run segment write'
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES: dict[str, tuple[str, ...]] = {
    "medseg.io.read": ("read", "read_label_map"),
    "medseg.io.write": ("write",),
    "medseg.io.inspect": ("inspect",),
    "medseg.preprocessing.preprocess": ("preprocess",),
    "medseg.segmentation.segment": ("segment",),
    "medseg.postprocessing.postprocess": ("postprocess",),
    "medseg.measurement.measure": ("measure",),
    "medseg.measurement.averages": ("average",),
    "medseg.measurement.lesions": ("lesions", "LesionTable"),
    "medseg.measurement.change": ("change", "ChangeTable", "TimePoint"),
    "medseg.evaluation.agreement": ("agreement", "Agreement"),
    "medseg.evaluation.overlap": ("evaluate", "Evaluation"),
    "medseg.method.catalog": ("methods",),
    "medseg.outputs": ("run",),
    "medseg.core.geometry": ("Geometry",),
    "medseg.core.volume": ("Volume",),
    "medseg.core.segment": ("Segment",),
    "medseg.core.codes": ("Code",),
    "medseg.core.label_map": ("LabelMap", "ProbabilityMap"),
    "medseg.core.finding": ("Finding", "Severity"),
    "medseg.core.measurement": ("Measurement", "MeasurementTable", "Status"),
    "medseg.core.provenance": ("Provenance",),
    "medseg.method.settings": ("RunSettings",),
    "medseg.core.errors": (
        "ChecksumError",
        "DeviceError",
        "DuplicateMethodError",
        "GeometryError",
        "GeometryMismatchError",
        "GeometryWarning",
        "IncompatibleModelError",
        "InconsistentSeriesError",
        "InputError",
        "MedsegError",
        "MedsegWarning",
        "MethodError",
        "MissingDependencyError",
        "ModelError",
        "ModelNotFoundError",
        "OutOfMemoryError",
        "OutputError",
        "OutputExistsError",
        "OutputVerificationError",
        "OverlappingSegmentsError",
        "ParameterError",
        "PipelineError",
        "SegmentError",
        "SeriesWarning",
        "SeveralVolumesError",
        "SingularAffineError",
        "UnknownMethodError",
        "UnknownSegmentError",
        "UnreadableFileError",
        "UnsafeModelError",
        "UnsupportedFormatError",
    ),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604 - the table above is the one list


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'medseg' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
