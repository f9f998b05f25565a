"""What the MedSeg module and its Segment Editor effects share inside 3D Slicer."""
