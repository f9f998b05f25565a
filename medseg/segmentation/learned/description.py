"""What a model folder says about its network: `model.json`, as a checked value."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from medseg.core.errors import SegmentError
from medseg.core.segment import Segment, segment_from_dict

SCHEMA = "medseg.model/1"
MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

_PATIENT_AXIS = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}

Scalar = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Size = Annotated[int, Field(ge=1, le=4096)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkEntry(_Entry):
    """A MONAI network by the name of its class, and its arguments as data."""

    name: str
    arguments: dict[str, Any]


class ClipAndScale(_Entry):
    """Clip to [lower, upper], then scale that range linearly to [-1, 1] (CT)."""

    kind: Literal["clip-and-scale"]
    lower: Scalar
    upper: Scalar

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> ClipAndScale:
        if self.lower >= self.upper:
            raise ValueError("lower must be below upper")
        return self


class ZScore(_Entry):
    """Subtract the mean of the volume, divide by its standard deviation (MR); `nonzero`: both of the voxels that are not 0."""

    kind: Literal["z-score"]
    nonzero: bool = False


class ClipAndZScore(_Entry):
    """Clip to [lower, upper], subtract `mean`, divide by `std`, all of the training data (nnU-Net's rule for CT)."""

    kind: Literal["clip-and-z-score"]
    lower: Scalar
    upper: Scalar
    mean: Scalar
    std: Positive

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> ClipAndZScore:
        if self.lower >= self.upper:
            raise ValueError("lower must be below upper")
        return self


Normalisation = Annotated[ClipAndScale | ZScore | ClipAndZScore, Field(discriminator="kind")]


class SegmentEntry(_Entry):
    """One structure: number, label, codes and colour as in `Segment.to_dict`."""

    number: int = Field(ge=1, le=65535)
    label: str = Field(min_length=1)
    category: dict[str, str] | None = None
    type: dict[str, str] | None = None
    modifier: dict[str, str] | None = None
    region: dict[str, str] | None = None
    region_modifier: dict[str, str] | None = None
    colour: tuple[int, int, int] | None = None

    def to_segment(self, algorithm: str = "") -> Segment:
        """Return the segment of a label map; raises SegmentError where codes or colour are impossible."""
        try:
            return segment_from_dict({**self.model_dump(exclude_none=True), "algorithm": algorithm})
        except (KeyError, TypeError) as err:
            raise SegmentError(f"segment {self.label!r}: a code needs scheme, value and meaning") from err


class WeightsEntry(_Entry):
    """The file of the weights beside `model.json`, with what it must hash to."""

    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)


class LicenceEntry(_Entry):
    """Licences (SPDX names where there is one) of code, weights and training data."""

    code: str
    weights: str
    data: str


class ModelDescription(_Entry):
    """A trained network and everything needed to use it; orders are those of the array axes (i,j,k) after reorienting.

    `channels` of the input by name; output channel 0 is background, channel n is the n-th of `segments`. `alignment`
    says whether oblique scans are turned to the patient axes ("patient") or kept on their own axes ("grid").
    `background` is the intensity outside the scan (none: the least of the volume). `mirror_axes` are the axes 0, 1, 2
    along which the network may be mirrored, `mirroring` whether that is usual. `patch_multiple` is what each extent of the
    input must be a multiple of. `normalisation` is one rule for all channels or one for each; several `weights` are folds,
    whose outputs are averaged.
    """

    schema_: Literal["medseg.model/1"] = Field(alias="schema")
    name: str = Field(pattern=f"^{MODEL_NAME.pattern}$")
    version: str = Field(min_length=1)
    title: str
    network: NetworkEntry
    channels: tuple[str, ...] = Field(min_length=1)
    modality: str
    spacing_mm: tuple[Positive, Positive, Positive]
    orientation: str = Field(pattern=r"^[RLAPSI]{3}$")
    alignment: Literal["patient", "grid"] = "patient"
    normalisation: Normalisation | tuple[Normalisation, ...]
    background: Scalar | None = None
    patch_size: tuple[Size, Size, Size]
    patch_multiple: Size = 16
    overlap: float = Field(ge=0, lt=1)
    mirror_axes: tuple[Literal[0, 1, 2], ...] = ()
    mirroring: bool = False
    segments: tuple[SegmentEntry, ...] = Field(min_length=1)
    weights: WeightsEntry | Annotated[tuple[WeightsEntry, ...], Field(min_length=1, max_length=64)]
    licence: LicenceEntry
    intended_use: str = Field(min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> ModelDescription:
        if len({_PATIENT_AXIS[code] for code in self.orientation}) != 3:
            raise ValueError(f"orientation {self.orientation!r} does not name each patient axis once")
        if any(size % self.patch_multiple for size in self.patch_size):
            raise ValueError(f"patch_size {self.patch_size} is not a multiple of {self.patch_multiple}")
        if isinstance(self.normalisation, tuple) and len(self.normalisation) != len(self.channels):
            raise ValueError(f"there are {len(self.channels)} channels and {len(self.normalisation)} rules of normalisation")
        if len({entry.file for entry in self.fold_weights}) != len(self.fold_weights):
            raise ValueError("two folds name the same file of weights")
        for what in ("number", "label"):
            values = [getattr(segment, what) for segment in self.segments]
            if len(set(values)) != len(values):
                raise ValueError(f"two segments have the same {what}")
        try:
            self.label_segments()
        except SegmentError as err:
            raise ValueError(str(err)) from err
        return self

    @property
    def fold_weights(self) -> tuple[WeightsEntry, ...]:
        """The files of weights, one per fold."""
        return self.weights if isinstance(self.weights, tuple) else (self.weights,)

    @property
    def channel_normalisation(self) -> tuple[ClipAndScale | ZScore | ClipAndZScore, ...]:
        """The rule of each channel."""
        return self.normalisation if isinstance(self.normalisation, tuple) else (self.normalisation,) * len(self.channels)

    def label_segments(self) -> tuple[Segment, ...]:
        """Return the segments in the order of the output channels 1, 2, ..."""
        return tuple(entry.to_segment(f"{self.name} {self.version}") for entry in self.segments)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as it stands in `model.json`."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
