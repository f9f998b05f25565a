"""Nodes of the scene to what the worker is told, and its results back into the scene.

`ijk_to_ras` is the node's own matrix, `parent_to_world` that of a linear parent transform (both 4×4, mm); points are in the
world's RAS mm. A labels reference is a crop: `extent` says where it lies in the voxels of the scan.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util import numpy_support

from MedSegLib.session import JobError, Session

MODALITY_ATTRIBUTE = "MedSeg.Modality"  # what the user said the scan is, where nothing else says it
KEPT_TAGS = ("medseg.algorithm", "medseg.tracking_id", "medseg.tracking_uid")  # what the bridge writes beside the codes
_HOUNSFIELD = ("[hnsf'U]", "HU")


# Scans


def scanRef(volumeNode):
    """Return what the worker is told of a volume: its voxels in a file (written once per change), its geometry, modality and unit.

    Raises JobError where there is no volume, no voxels, two dimensions only, several components, or a warped parent transform.
    """
    checkVolume(volumeNode)
    array = slicer.util.arrayFromVolume(volumeNode)
    image = volumeNode.GetImageData()
    matrix, parent = ijkToRas(volumeNode), parentToWorld(volumeNode)
    key = f"{volumeNode.GetID()}-{image.GetMTime()}-{image.GetPointData().GetScalars().GetMTime()}"
    path = Session.instance().files.scanFile(key, array)
    modality, unit = modalityOf(volumeNode)
    return {
        "key": f"{key}-{abs(hash((matrix.tobytes(), parent.tobytes() if parent is not None else b'', modality, unit))):x}",
        "array": path,
        "ijk_to_ras": matrix.tolist(),
        "parent_to_world": parent.tolist() if parent is not None else None,
        "modality": modality,
        "unit": unit,
        "name": volumeNode.GetID(),  # never the node's name: loaded from DICOM it may hold the patient's
    }


def whyNotUsable(volumeNode):
    """Return the sentence that says why a volume cannot be worked on, "" where it can."""
    if volumeNode is None:
        return _("Choose a scan first.")
    image = volumeNode.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        return _("This scan has no voxels. Load it again, or choose another one.")
    if min(image.GetDimensions()) < 2:
        return _("This scan has a single slice. MedSeg works in 3D: choose the whole series.")
    if image.GetNumberOfScalarComponents() > 1:
        return _("This scan has several values per voxel (colour or vectors). Choose a scan with one value per voxel.")
    transform = volumeNode.GetParentTransformNode()
    if transform is not None and not transform.IsTransformToWorldLinear():
        return _("The scan is under a transform that bends it. Harden that transform (Transforms module), then try again.")
    return ""


def checkVolume(volumeNode):
    """Raise JobError with the sentence where a volume cannot be worked on."""
    sentence = whyNotUsable(volumeNode)
    if sentence:
        raise JobError(sentence, "Input", 3)


def ijkToRas(volumeNode):
    """Return the 4×4 matrix of a volume node, its voxels to its own RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def parentToWorld(node):
    """Return the 4×4 matrix of a node's linear parent transform, None where it has no parent."""
    transform = node.GetParentTransformNode()
    if transform is None:
        return None
    matrix = vtk.vtkMatrix4x4()
    if not transform.IsTransformToWorldLinear() or not transform.GetMatrixTransformToWorld(matrix):
        raise JobError(
            _("The node is under a transform that bends it. Harden that transform (Transforms module), then try again."), "Input", 3
        )
    return slicer.util.arrayFromVTKMatrix(matrix)


def ijkToWorld(volumeNode):
    """Return the 4×4 matrix of a volume's voxels to the world's RAS mm."""
    parent = parentToWorld(volumeNode)
    return ijkToRas(volumeNode) if parent is None else parent @ ijkToRas(volumeNode)


def modalityOf(volumeNode):
    """Return modality and unit of a volume: what the user said, else what DICOM said, else "" and ""."""
    said = volumeNode.GetAttribute(MODALITY_ATTRIBUTE) or ""
    modality = said or _dicomModality(volumeNode)
    units = volumeNode.GetVoxelValueUnits() if hasattr(volumeNode, "GetVoxelValueUnits") else None
    unit = units.GetCodeValue() if units is not None and units.GetCodeValue() else ""
    if unit in _HOUNSFIELD or (modality == "CT" and not unit):
        unit = "HU"
    return modality, unit


def setModality(volumeNode, modality):
    """Remember what the user says a scan is; "" forgets it."""
    if modality:
        volumeNode.SetAttribute(MODALITY_ATTRIBUTE, modality)
    else:
        volumeNode.RemoveAttribute(MODALITY_ATTRIBUTE)


def dicomFiles(volumeNode):
    """Return the files of the DICOM series a volume was loaded from, [] where it was not or they are not in the database."""
    uids = (volumeNode.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return []
    files = [database.fileForInstance(uid) for uid in uids]
    return files if all(files) else []


def _dicomModality(volumeNode):
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    if hierarchy is None:
        return ""
    item = hierarchy.GetItemByDataNode(volumeNode)
    return (hierarchy.GetItemAttribute(item, "DICOM.Modality") or "") if item else ""


# Segments to the worker


def labelsRef(segmentationNode, segmentIDs=None, volumeNode=None, onFinding=None):
    """Return segments as the worker takes them: cropped, in the voxels of `volumeNode`, in as few layers as overlaps need.

    `onFinding` is called with each finding as a dictionary, such as voxels that lie outside the scan and are left out.
    Raises JobError where there are no segments, and where they are not on the grid of the scan.
    """
    from medseg.core.errors import MedsegError
    from medseg.slicer_bridge.arrays import cropped, geometry_of, label_map_of

    volumeNode = volumeNode or referenceVolume(segmentationNode)
    checkVolume(volumeNode)
    ids = list(segmentIDs) if segmentIDs is not None else segmentIDsOf(segmentationNode)
    if not ids:
        raise JobError(_("The segmentation has no segments. Segment something first."), "Input", 3)
    shape, matrix, parent = slicer.util.arrayFromVolume(volumeNode).shape, ijkToRas(volumeNode), parentToWorld(volumeNode)
    try:
        maps = label_map_of([bridgeSegment(segmentationNode, one) for one in ids], geometry_of(shape, matrix, parent))
    except MedsegError as err:
        raise JobError(str(err), type(err).__name__, err.exit_code) from err
    for finding in maps[0].findings if onFinding is not None else ():  # each layer has those of all
        onFinding(finding.to_dict())
    layers = []
    for labelMap in maps:
        array, extent = cropped(labelMap)
        path = Session.instance().files.save("labels", array) if array.size else ""
        layers.append({"array": path, "extent": list(extent)})
    segments = sorted((segment.to_dict() for labelMap in maps for segment in labelMap.segments), key=lambda entry: entry["number"])
    return {
        **layers[0],
        "shape": [int(n) for n in shape],
        "ijk_to_ras": matrix.tolist(),
        "parent_to_world": parent.tolist() if parent is not None else None,
        "segments": segments,
        **({"layers": layers} if len(layers) > 1 else {}),
    }


def bridgeSegment(segmentationNode, segmentID):
    """Return a segment as the bridge takes it: a view of its layer's voxels, with where they lie in the world."""
    from medseg.slicer_bridge.arrays import EMPTY_EXTENT, BridgeSegment

    segment = segmentationNode.GetSegmentation().GetSegment(segmentID)
    image = binaryImage(segmentationNode, segmentID)
    common = {
        "id": segmentID,
        "name": segment.GetName() or segmentID,
        "colour": segment.GetColor(),
        "terminology": terminologyOf(segment),
        "tags": tagsOf(segment),
    }
    if image is None or image.IsEmpty():
        return BridgeSegment(array_kji=np.zeros((0, 0, 0), np.uint8), extent=EMPTY_EXTENT, ijk_to_ras=np.eye(4), **common)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    own, parent = slicer.util.arrayFromVTKMatrix(matrix), parentToWorld(segmentationNode)
    return BridgeSegment(
        array_kji=imageArray(image),
        extent=tuple(image.GetExtent()),
        ijk_to_ras=own if parent is None else parent @ own,
        value=int(segment.GetLabelValue()),
        **common,
    )


def terminologyOf(segment):
    """Return the terminology line of a vtkSegment, "" where it has none."""
    if hasattr(segment, "GetTerminology"):  # Slicer 5.8 and older keep it as a tag
        return segment.GetTerminology() or ""
    text = vtk.mutable("")
    return str(text) if segment.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), text) else ""


def segmentIDsOf(segmentationNode):
    """Return the IDs of all segments, in the order of the table."""
    if segmentationNode is None:
        return []
    segmentation = segmentationNode.GetSegmentation()
    return [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]


def referenceVolume(segmentationNode):
    """Return the volume whose grid a segmentation was drawn on, None where it is not known."""
    if segmentationNode is None:
        return None
    return segmentationNode.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def binaryImage(segmentationNode, segmentID):
    """Return the oriented image a segment lives in (shared with others of its layer), None where it was never drawn."""
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segmentation = segmentationNode.GetSegmentation()
    if not segmentation.ContainsRepresentation(name) and not segmentation.CreateRepresentation(name):
        raise JobError(
            _("The segments are surfaces that cannot be turned into voxels. Create a binary labelmap in the Segmentations module."),
            "Input",
            3,
        )
    return segmentation.GetSegment(segmentID).GetRepresentation(name)


def imageArray(image):
    """Return the voxels of an oriented image as (k,j,i), without a copy."""
    i, j, k = image.GetDimensions()
    return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)


def tagsOf(segment):
    """Return the tags of a vtkSegment, such as what tracks a lesion over time."""
    tags = {}
    for name in KEPT_TAGS:
        text = vtk.mutable("")
        if segment.GetTag(name, text):
            tags[name] = str(text)
    return tags


# Results into the scene


def orientedImageData(labelsRef, number=None, volumeNode=None):
    """Return a labels reference as vtkOrientedImageData, cropped, in world RAS; with `number` that segment alone as 0 and 1.

    Without `number` it is the first layer with all its numbers. With `volumeNode` the volume's own matrix is set instead, for
    a segmentation that shares the volume's parent transform.
    """
    layers = _loaded(labelsRef)
    array, extent = layers[0]
    if number is not None:
        array, extent = next((one for one in layers if (one[0] == number).any()), layers[0])
        array = (array == number).view(np.uint8)
    if volumeNode is not None:
        return orientedImage(array, extent, ijkToRas(volumeNode))
    parent, own = labelsRef.get("parent_to_world"), np.asarray(labelsRef["ijk_to_ras"], float)
    return orientedImage(array, extent, own if parent is None else np.asarray(parent, float) @ own)


def orientedImage(array_kji, extent, matrix):
    """Return an array (k,j,i) that covers `extent` as vtkOrientedImageData with a 4×4 voxels-to-mm matrix; the voxels are copied."""
    image = slicer.vtkOrientedImageData()
    image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(matrix))
    if any(extent[a] > extent[a + 1] for a in (0, 2, 4)):  # nothing was found: an empty image, as Slicer has it
        image.SetExtent(0, -1, 0, -1, 0, -1)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        return image
    image.SetExtent(*[int(n) for n in extent])
    if array_kji.dtype == np.uint16 and int(array_kji.max()) < 2**15:
        array_kji = array_kji.astype(np.int16)  # what Slicer's own label maps are
    elif array_kji.dtype == bool:
        array_kji = array_kji.view(np.uint8)
    scalars = numpy_support.numpy_to_vtk(np.ascontiguousarray(array_kji).reshape(-1), deep=True)
    image.GetPointData().SetScalars(scalars)
    return image


def importLabels(labelsRef, segmentationNode, volumeNode):
    """Add all segments of a result to a segmentation at once and return their IDs; the voxels are copied once, whatever their number.

    Names, colours and codes are set, the volume becomes the reference geometry and its transform the segmentation's, and the
    segmentation stands beside the volume in the subject hierarchy.
    """
    matrix = _matrixFor(segmentationNode, volumeNode)
    segmentation = segmentationNode.GetSegmentation()
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if segmentation.GetNumberOfSegments() == 0:
        segmentation.SetSourceRepresentationName(name)
    segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    layers = _loaded(labelsRef)
    images = [orientedImage(array, extent, matrix) for array, extent in layers]
    home = {int(number): n for n, (array, _extent) in enumerate(layers) if n for number in np.unique(array) if number}
    added = []
    modified = segmentationNode.StartModify()
    try:
        for entry in labelsRef["segments"]:
            segment = _segment(entry)
            segment.AddRepresentation(name, images[home.get(entry["number"], 0)])
            segment.SetLabelValue(int(entry["number"]))
            segmentID = segmentation.GenerateUniqueSegmentID(entry["label"])
            if not segmentation.AddSegment(segment, segmentID):
                raise JobError(_('The segment "{0}" could not be added to the segmentation.').format(entry["label"]), "Scene", 5)
            added.append(segmentID)
    finally:
        segmentationNode.EndModify(modified)
    if segmentationNode.GetDisplayNode() is None:
        segmentationNode.CreateDefaultDisplayNodes()
    placeBeside(segmentationNode, volumeNode)
    return added


def _loaded(labelsRef):
    """Return (array, extent) of each layer; an empty one has no voxels."""
    layers = labelsRef.get("layers") or [labelsRef]
    empty = np.zeros((0, 0, 0), np.uint8)
    return [(np.load(layer["array"], mmap_mode="r") if layer["array"] else empty, layer["extent"]) for layer in layers]


def newSegmentation(volumeNode, baseName):
    """Return a new segmentation node named after the scan and what was done, under the scan's transform."""
    name = slicer.mrmlScene.GenerateUniqueName(f"{volumeNode.GetName()} {baseName}")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    return node


def placeBeside(node, volumeNode):
    """Put a node where its scan is in the subject hierarchy."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    if hierarchy is None:
        return
    scanItem, item = hierarchy.GetItemByDataNode(volumeNode), hierarchy.GetItemByDataNode(node)
    if scanItem and item:
        hierarchy.SetItemParent(item, hierarchy.GetItemParent(scanItem))


def _matrixFor(segmentationNode, volumeNode):
    """Return voxels of the scan to the segmentation's own RAS, where their parent transforms may differ."""
    if segmentationNode.GetTransformNodeID() == volumeNode.GetTransformNodeID():
        return ijkToRas(volumeNode)
    if segmentationNode.GetSegmentation().GetNumberOfSegments() == 0:
        segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        return ijkToRas(volumeNode)
    parent = parentToWorld(segmentationNode)
    world = ijkToWorld(volumeNode)
    return world if parent is None else np.linalg.inv(parent) @ world


def _segment(entry):
    from medseg.slicer_bridge import terminology

    described = terminology.segment_of(entry)
    segment = slicer.vtkSegment()
    segment.SetName(described.label)
    segment.SetColor(*terminology.slicer_colour(described))
    text = terminology.terminology_of(described)
    if hasattr(segment, "SetTerminology"):
        segment.SetTerminology(text)
    else:  # Slicer 5.8 and older keep it as a tag
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), text)
    for name, value in terminology.tags_of(described).items():
        segment.SetTag(name, value)
    return segment
