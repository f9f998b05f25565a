"""Networks that are told what to segment: points, boxes, a mask to refine, or names of structures."""
