"""From a scan to a label map: classical methods and trained networks."""
