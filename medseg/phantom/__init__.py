"""Scans with answers known from formulas: solids, an anatomy made of them, a scanner that images it, and the truth."""

from medseg.phantom.catalog import PHANTOMS as PHANTOMS
from medseg.phantom.catalog import Phantom as Phantom
from medseg.phantom.catalog import descriptions as descriptions
from medseg.phantom.catalog import make_ellipsoid as make_ellipsoid
from medseg.phantom.catalog import make_phantom as make_phantom
from medseg.phantom.catalog import make_sphere as make_sphere
from medseg.phantom.catalog import make_torso as make_torso
