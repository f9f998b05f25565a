"""The Segment Editor effects of MedSeg.

`qSlicerSegmentEditorScriptedEffect::setPythonSource(path)` takes the folder's name as the module and the file's name as the
class, and asks that module for the class first. Therefore each effect file is named like its class, both end in "Effect", and
the classes are attributes of this package: were they not, Slicer would run the file *as* the module "SegmentEditorMedSegLib",
replace this package by it, and the next `from SegmentEditorMedSegLib...` would fail. The imports below must stay `from`
imports: they put the class where the import system had put the submodule of the same name.
"""

from SegmentEditorMedSegLib.SegmentEditorMedSegClickLesionEffect import SegmentEditorMedSegClickLesionEffect
from SegmentEditorMedSegLib.SegmentEditorMedSegGrowEffect import SegmentEditorMedSegGrowEffect
from SegmentEditorMedSegLib.SegmentEditorMedSegModelEffect import SegmentEditorMedSegModelEffect
from SegmentEditorMedSegLib.SegmentEditorMedSegSmoothEffect import SegmentEditorMedSegSmoothEffect
from SegmentEditorMedSegLib.SegmentEditorMedSegSplitEffect import SegmentEditorMedSegSplitEffect

EFFECTS = (
    SegmentEditorMedSegClickLesionEffect,
    SegmentEditorMedSegGrowEffect,
    SegmentEditorMedSegSplitEffect,
    SegmentEditorMedSegSmoothEffect,
    SegmentEditorMedSegModelEffect,
)
__all__ = ["EFFECTS"]
