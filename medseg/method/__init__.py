"""One description of a method, read by every interface: Python, command line, pipelines, docs, Slicer."""
