"""Segmentation by intensity and connection, without training."""
