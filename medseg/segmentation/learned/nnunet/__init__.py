"""Models of nnU-Net v2: their folders read as data, and nnU-Net's algorithm around medseg's own engine."""
