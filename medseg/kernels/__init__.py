"""Loops over plain arrays: C-contiguous (k, j, i) numpy in, numpy out, no medseg types.

``volume.array.T`` is such an array at no cost. Numba is imported only when one of the modules here is imported, and
each loop is compiled on its first use for a dtype and kept in numba's cache.
"""
