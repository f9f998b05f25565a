"""medseg: CT and MR scans into volumes that a researcher can defend. Research software, not a medical device."""

__version__ = "0.1.0"
