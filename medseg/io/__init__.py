"""Reading and writing of image files: the only place that opens them."""
