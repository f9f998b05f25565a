"""The clicks of an effect, as control points in the scene: seen in all views, in the world's RAS mm."""

from __future__ import annotations

import slicer
import vtk

INSIDE, OUTSIDE = "MedSegInside", "MedSegOutside"  # also the roles of the nodes
COLOURS = {INSIDE: (0.2, 0.85, 0.35), OUTSIDE: (0.95, 0.3, 0.2)}
GLYPH_SCALE = 1.6


class Clicks:
    """Points inside and outside of what is looked for."""

    def __init__(self, scriptedEffect):
        self.scriptedEffect = scriptedEffect
        self._sides = []  # of the clicks, in their order

    def points(self, side=INSIDE):
        """Return the points of a side as lists [R, A, S] in mm."""
        node = self._node(side)
        if node is None:
            return []
        place = [0.0, 0.0, 0.0]
        found = []
        for number in range(node.GetNumberOfControlPoints()):
            node.GetNthControlPointPositionWorld(number, place)
            found.append([round(value, 4) for value in place])
        return found

    def add(self, point, side=INSIDE):
        """Add a point [R, A, S] in mm."""
        node = self._node(side) or self._made(side)
        node.AddControlPointWorld(vtk.vtkVector3d(*point))
        self._sides.append(side)

    def removeLast(self):
        """Take the newest point back, on whichever side it lies."""
        node = self._node(self._sides.pop()) if self._sides else None
        if node is not None and node.GetNumberOfControlPoints():
            node.RemoveNthControlPoint(node.GetNumberOfControlPoints() - 1)

    def clear(self):
        """Take all points away."""
        self._sides.clear()
        for side in (INSIDE, OUTSIDE):
            node = self._node(side)
            if node is not None:
                self.scriptedEffect.setNodeReference(side, None)
                slicer.mrmlScene.RemoveNode(node)

    def _node(self, side):
        if self.scriptedEffect.parameterSetNode() is None:
            return None
        return self.scriptedEffect.nodeReference(side)

    def _made(self, side):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLMarkupsFiducialNode")
        node.UnRegister(None)
        node.SetName(side)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        node = slicer.mrmlScene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        node.SetLocked(True)  # a click near a point is a click, not a drag
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetSelectedColor(*COLOURS[side])
        display.SetGlyphScale(GLYPH_SCALE)
        display.SetPointLabelsVisibility(False)
        self.scriptedEffect.setNodeReference(side, node)
        return node
