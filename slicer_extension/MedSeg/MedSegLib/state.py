"""The state of the panel: kept in a node of the scene, so that it is saved, loaded and scripted with it.

Annotations are real types here: the wrapper reads them.
"""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLTableNode
from slicer.parameterNodeWrapper import Choice, Default, parameterNodeWrapper

DEVICES = ("auto", "cpu", "cuda:0", "cuda:1")


@parameterNodeWrapper
class MedSegParameterNode:
    """`values` is JSON: parameters by choice, only what differs from the defaults; `document` and `findings` are the last result,
    `origin` and the nodes `measured…` what it was measured on."""

    inputVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    resultTable: vtkMRMLTableNode
    measuredVolume: vtkMRMLScalarVolumeNode
    measuredSegmentation: vtkMRMLSegmentationNode
    measuredParts: vtkMRMLSegmentationNode
    search: str
    choice: str
    values: str
    createNew: Annotated[bool, Default(True)]
    measureAfterwards: Annotated[bool, Default(True)]
    inSpiteOfErrors: Annotated[bool, Default(False)]
    device: Annotated[str, Choice(DEVICES), Default("auto")]
    document: str
    findings: str
    origin: str
