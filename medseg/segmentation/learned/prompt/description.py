"""What a promptable network says about itself: `click.json` and `vista3d.json`, as checked values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from medseg.segmentation.learned.description import MODEL_NAME, LicenceEntry, WeightsEntry

Count = Annotated[int, Field(ge=1, le=4096)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClickArguments(_Entry):
    """Arguments of `ClickNetwork`."""

    in_channels: Count
    features: tuple[Count, Count, Count]
    top_features: Count


class ClickNetworkEntry(_Entry):
    """The network of a click model."""

    name: Literal["ClickNetwork"]
    arguments: ClickArguments


class VistaArguments(_Entry):
    """What sets the size of a VISTA3D network; the defaults are those of `monai.networks.nets.vista3d132`."""

    in_channels: Count = 1
    encoder_embed_dim: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 48
    blocks_down: tuple[Count, ...] = (1, 2, 2, 4, 4)
    n_classes: Annotated[int, Field(ge=2, le=65536)] = 512
    last_supported: Count = 132


class VistaNetworkEntry(_Entry):
    """The network of a VISTA3D model."""

    name: Literal["vista3d132"]
    arguments: VistaArguments = VistaArguments()


class _Model(_Entry):
    schema_: Literal["medseg.prompt-model/1"] = Field(alias="schema")
    name: str = Field(pattern=f"^{MODEL_NAME.pattern}$")
    version: str = Field(min_length=1)
    title: str
    weights: WeightsEntry
    licence: LicenceEntry
    intended_use: str = Field(min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)


class ClickDescription(_Model):
    """`click.json`: a network that takes the channels of `medseg.segmentation.learned.prompt.channels`."""

    kind: Literal["click"]
    network: ClickNetworkEntry
    channels: tuple[str, ...]
    region_voxels: Annotated[int, Field(ge=16, le=256, multiple_of=8)]


_PARTS = {2: (14, 5), 20: (28, 29, 30, 31, 32), 21: (*range(33, 57), *range(63, 98), 114, 120, 122)}


class VistaDescription(_Model):
    """`vista3d.json`: a VISTA3D network; `classes` gives the name of each class number it knows.

    `parts` are the classes that stand for one it has no answer of its own to (kidney: left and right kidney);
    `special_classes` tell their points apart from those of other classes.
    """

    kind: Literal["vista3d"]
    network: VistaNetworkEntry = VistaNetworkEntry(name="vista3d132")
    classes: dict[int, str] = Field(default_factory=dict)
    parts: dict[int, tuple[int, ...]] = Field(default_factory=lambda: dict(_PARTS))
    special_classes: tuple[int, ...] = (23, 24, 25, 26, 27, 57, 128)
    spacing_mm: Annotated[float, Field(gt=0)] = 1.5
    lower: float = -963.8247715525971
    upper: float = 1053.678477684517
    patch_size: tuple[Count, Count, Count] = (128, 128, 128)
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.3


Description = Annotated[ClickDescription | VistaDescription, Field(discriminator="kind")]
ADAPTER: pydantic.TypeAdapter[ClickDescription | VistaDescription] = pydantic.TypeAdapter(Description)
