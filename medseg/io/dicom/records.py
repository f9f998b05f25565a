"""DICOM files from plain records: header fields by keyword and stored pixels, in any transfer syntax, faulty ones included.

Nothing is checked and nothing is put right: the records are faults on purpose (medseg.phantom.faults). Scans that are to be
sound are written by `medseg.io.dicom.series`.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from medseg.core.errors import MissingDependencyError, OutputError, OutputExistsError
from medseg.io.dicom.quiet import quiet

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SYNTAXES = {
    "explicit-little": "1.2.840.10008.1.2.1",
    "implicit-little": "1.2.840.10008.1.2",
    "big-endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "jpeg-baseline": "1.2.840.10008.1.2.4.50",
    "jpeg-extended": "1.2.840.10008.1.2.4.51",
    "jpeg-lossless": "1.2.840.10008.1.2.4.57",
    "jpeg-lossless-sv1": "1.2.840.10008.1.2.4.70",
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg-ls-near": "1.2.840.10008.1.2.4.81",
    "jpeg-2000-lossless": "1.2.840.10008.1.2.4.90",
    "jpeg-2000": "1.2.840.10008.1.2.4.91",
    "htj2k-lossless": "1.2.840.10008.1.2.4.201",
    "rle": "1.2.840.10008.1.2.5",
    "unknown": "1.2.840.10008.1.2.4.102",  # MPEG-4 video
}
_NATIVE = ("explicit-little", "implicit-little", "big-endian", "deflated")
# the encoder that pydicom calls, and how much may be lost: the largest error of a stored number, the ratio of compression
_PLUGINS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "rle": ("pylibjpeg", {}),
    "jpeg-ls": ("pyjpegls", {}),
    "jpeg-ls-near": ("pyjpegls", {"lossy_error": 2, "jls_error": 2}),
    "jpeg-2000-lossless": ("pylibjpeg", {}),
    "jpeg-2000": ("pylibjpeg", {"j2k_cr": [8]}),
}
_PRIVATE = re.compile(r"([0-9A-F]{4}),([0-9A-F]{4}) ([A-Z]{2})")


class DicomRecord(Protocol):
    """One file: its name, header fields by keyword (or "GGGG,EEEE VR"), pixels of the stored type, and how it is written."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def header(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def pixels(self) -> npt.NDArray[Any] | None: ...  # noqa: D102
    @property
    def syntax(self) -> str: ...  # noqa: D102
    @property
    def has_preamble(self) -> bool: ...  # noqa: D102


class RawRecord(Protocol):
    """One file as bytes."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def content(self) -> bytes: ...  # noqa: D102


def write_records(records: Iterable[DicomRecord | RawRecord], folder: str | os.PathLike[str], overwrite: bool = False) -> tuple[Path, ...]:
    """Write files into a folder, exactly as their records say, and return their paths.

    Raises OutputExistsError where a file is there already and must not be replaced, OutputError where the folder cannot be
    written, MissingDependencyError where an encoder comes with an extra.
    """
    target = Path(folder)
    paths = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for record in records:
            path = target / record.name
            if path.exists() and not overwrite:
                raise OutputExistsError(f"{path} is there already: choose another folder or allow overwriting (--overwrite)")
            content = getattr(record, "content", None)
            if content is not None:
                path.write_bytes(content)
            else:
                write_record(record, path)  # type: ignore[arg-type]
            paths.append(path)
    except OSError as err:
        if isinstance(err, OutputError):
            raise
        raise OutputError(f"{target}: files cannot be written ({err.strerror or err}): check the folder and the disk") from err
    return tuple(paths)


def write_record(record: DicomRecord, path: Path) -> None:
    """Write one DICOM file; with pydicom's checks of values off, because a value that is wrong on purpose has to stay wrong."""
    from pydicom import config, dcmwrite

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = config.settings.writing_validation_mode, config.settings.reading_validation_mode
        config.settings.writing_validation_mode = config.settings.reading_validation_mode = config.IGNORE
        try:
            dataset = _dataset(record.header)
            _put_pixels(dataset, record)
            if record.has_preamble:
                dataset.file_meta = _meta(dataset, record.syntax)
                dcmwrite(path, dataset, enforce_file_format=True)
            else:
                dcmwrite(path, dataset, implicit_vr=record.syntax == "implicit-little", little_endian=True, enforce_file_format=False)
        finally:
            config.settings.writing_validation_mode, config.settings.reading_validation_mode = before


def _dataset(header: Mapping[str, Any]) -> Dataset:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as DicomSequence

    dataset = Dataset()
    for key, value in header.items():
        private = _PRIVATE.fullmatch(key)
        if private:
            group, element, kind = private.groups()
            dataset.add_new((int(group, 16), int(element, 16)), kind, value)
        elif _is_sequence(value):
            setattr(dataset, key, DicomSequence([_dataset(item) for item in value]))
        else:
            setattr(dataset, key, _value(key, value))
    return dataset


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _value(keyword: str, value: Any) -> Any:
    from pydicom.datadict import dictionary_VR
    from pydicom.valuerep import DSfloat

    if dictionary_VR(keyword) != "DS" or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return [_value(keyword, part) for part in value]
    return DSfloat(float(value) + 0.0, auto_format=True)  # at most 16 characters; + 0.0 turns -0.0 into 0.0


def _meta(dataset: Dataset, syntax: str) -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(SYNTAXES[syntax])
    return meta


def _put_pixels(dataset: Dataset, record: DicomRecord) -> None:
    if record.pixels is None:
        return
    pixels = np.ascontiguousarray(record.pixels)
    if record.syntax in _NATIVE:
        little = pixels.astype(pixels.dtype.newbyteorder("<"))
        content = (little.byteswap() if record.syntax == "big-endian" else little).tobytes()
        dataset.PixelData = content + b"\0" * (len(content) % 2)
        dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
        return
    from pydicom.encaps import encapsulate

    frames = pixels if pixels.ndim == 3 else pixels[None]
    bits = int(dataset.BitsStored)
    dataset.PixelData = encapsulate(_encoded(frames, record.syntax, bits))
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _encoded(frames: npt.NDArray[Any], syntax: str, bits: int) -> list[bytes]:
    if syntax == "unknown":
        return [frame.tobytes() for frame in frames]
    encode = _by_pydicom if syntax in _PLUGINS else _by_imagecodecs
    return [encode(np.ascontiguousarray(frame), syntax, bits) for frame in frames]


def _by_pydicom(frame: npt.NDArray[Any], syntax: str, bits: int) -> bytes:
    from pydicom.pixels import get_encoder
    from pydicom.uid import UID

    plugin, options = _PLUGINS[syntax]
    content = get_encoder(UID(SYNTAXES[syntax])).encode(
        frame,
        encoding_plugin=plugin,
        rows=frame.shape[0],
        columns=frame.shape[1],
        number_of_frames=1,
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=frame.dtype.itemsize * 8,
        bits_stored=bits,
        pixel_representation=int(frame.dtype.kind == "i"),
        **options,
    )
    return bytes(content)


def _by_imagecodecs(frame: npt.NDArray[Any], syntax: str, bits: int) -> bytes:
    try:
        import imagecodecs
    except ImportError as err:
        raise MissingDependencyError(f"writing {syntax} files needs imagecodecs: pip install 'medseg[codecs]'") from err

    if syntax == "htj2k-lossless":
        return bytes(imagecodecs.htj2k_encode(frame, reversible=True))
    if syntax.startswith("jpeg-lossless"):
        predictor = 1 if syntax.endswith("sv1") else 4
        return bytes(imagecodecs.jpeg8_encode(frame, lossless=True, predictor=predictor, bitspersample=bits))
    return bytes(imagecodecs.jpeg8_encode(frame, level=95, bitspersample=8 if frame.dtype.itemsize == 1 else 12))
