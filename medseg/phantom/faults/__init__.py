"""Scans with one thing wrong and a known truth: every row of the catalogue of faults, to try readers on."""

from medseg.phantom.faults.catalog import FAULTS as FAULTS
from medseg.phantom.faults.catalog import ROWS as ROWS
from medseg.phantom.faults.catalog import find_faults as find_faults
from medseg.phantom.faults.fault import Action as Action
from medseg.phantom.faults.fault import DicomFile as DicomFile
from medseg.phantom.faults.fault import Fault as Fault
from medseg.phantom.faults.fault import FaultyScan as FaultyScan
from medseg.phantom.faults.fault import Kind as Kind
from medseg.phantom.faults.fault import Option as Option
from medseg.phantom.faults.fault import RawFile as RawFile
