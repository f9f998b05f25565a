"""From a folder of files to cases: headers are glanced at, one series is chosen, and each other one has its reason."""
