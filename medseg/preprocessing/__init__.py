"""From the scan as it was read to the scan a method wants: orientation, grid, intensities, noise; and the way back."""
