"""From the label map a method made to the one that is measured: components, holes, smooth surfaces."""
