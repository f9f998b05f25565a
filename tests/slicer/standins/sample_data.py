"""`SampleData`: the module in which others register their samples, with Slicer's rule of lengths; nothing is downloaded."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import slicer

ENDINGS = {".mrml": "SceneFile", ".mrb": "SceneFile", ".zip": "ZipFile"}


class SampleDataSource:
    """A sample: one address, or a list of them with as many names; without an address Slicer has no lengths to compare and fails."""

    def __init__(  # noqa: PLR0917 Slicer's own signature
        self,
        sampleName: str | None = None,
        sampleDescription: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileType: Any = None,
        loadFileProperties: dict[str, Any] | None = None,
    ) -> None:
        fields = [fileNames, nodeNames, loadFiles, checksums, loadFileType]
        if isinstance(uris, str):
            uris, fields = [uris], [[entry] for entry in fields]
        elif uris is not None:
            isOne = isinstance(loadFileType, str)
            fields = [entry if entry is not None else [None] * len(uris) for entry in fields]
            fields[4] = [loadFileType] * len(uris) if isOne else fields[4]
            fields[0] = fileNames  # the only one without a stand-in
        self.sampleName, self.sampleDescription = sampleName, sampleDescription or sampleName
        self.uris = uris
        self.fileNames, self.nodeNames, self.loadFiles, self.checksums, kinds = fields
        self.loadFileType = [_kind(*entry) for entry in zip(self.fileNames, self.nodeNames, kinds, strict=False)]
        self.customDownloader, self.thumbnailFileName = customDownloader, thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}
        if len({len(entry) for entry in (uris, *fields[:4], self.loadFileType)}) > 1:
            raise ValueError("All fields of sample data source must have the same length")


def _kind(fileName: str | None, nodeName: str | None, kind: str | None) -> str | None:
    if kind is not None or nodeName is not None:
        return kind or "VolumeFile"
    return ENDINGS.get(os.path.splitext(fileName.lower())[1])  # type: ignore[union-attr] # without a name Slicer fails here too


class SampleDataLogic:
    """Where samples are registered: `slicer.modules.sampleDataSources`, category → sources."""

    @staticmethod
    def registerCustomSampleDataSource(  # noqa: PLR0917 Slicer's own signature
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileType: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
    ) -> None:
        source = SampleDataSource(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            thumbnailFileName=thumbnailFileName,
            loadFileType=loadFileType,
            loadFiles=loadFiles,
            loadFileProperties=loadFileProperties,
            checksums=checksums,
            customDownloader=customDownloader,
        )
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)


def install() -> None:
    """Makes `SampleData`."""
    module = types.ModuleType("SampleData")
    module.__dict__.update(SampleDataSource=SampleDataSource, SampleDataLogic=SampleDataLogic)
    sys.modules["SampleData"] = module
    slicer.modules.sampleDataSources = {}
