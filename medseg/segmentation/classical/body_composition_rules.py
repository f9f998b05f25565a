"""The lengths that the anatomy of the trunk gives: each with its reason, none fitted to a scan."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """Lengths in mm; the results hold when any of them is 20 % off (benchmarks/evaluate_body_composition.py shows it)."""

    couch_mm: float = 4.0
    """Half the thickness of what an opening takes off the body: couch tops and blankets are thinner than 8 mm."""
    contact_mm: float = 12.0
    """Half the width over which an arm may touch the trunk and still be told from it."""
    core_depth_mm: float = 5.0
    """Twice the skin of the trunk (1.9 to 2.5 mm, doi:10.1016/j.vaccine.2007.05.046): soft tissue deeper than this is not skin."""
    envelope_mm: float = 20.0
    """Radius that closes the outline of the muscles: gaps between them (flank, groove of the back, linea alba) are narrower than 40 mm."""
    bone_mm: float = 3.0
    """Radius that closes gaps in the cortex of ribs, blurred by blocks of 3 mm."""
    spine_mm: float = 9.0
    """Radius that closes the column over the discs: 8.8 mm high on average, SD 1.4 mm (doi:10.1055/a-1994-0879)."""
    spine_reach_mm: float = 55.0
    """Half the width of a vertebra from one transverse process to the other, with room for scoliosis."""
    seam_mm: float = 4.5
    """Half the thickness of fat between muscles; fat of the cavity is thicker somewhere."""
    deep_mm: float = 40.0
    """Fat and gas deeper than this, in front of the spine, lie in the cavity: no layer of the trunk's wall is as thick there."""
    wall_mm: float = 30.0
    """Greatest thickness of the abdominal wall. In men at rest transversus measures 5.5 mm and the internal oblique 9.5 mm
    (doi:10.1016/j.pmrj.2013.03.003), the external oblique less (doi:10.1186/s40101-016-0106-6): below 25 mm together."""
    bony_wall_mm: float = 60.0
    """Greatest thickness of the wall outside lungs and ribs: pectoral and shoulder muscles with the ribs."""
    back_mm: float = 75.0
    """Half the width of the back muscles beside the spine (erector spinae and quadratus lumborum)."""
    psoas_mm: float = 60.0
    """How far psoas reaches sideways from the midline, at the fourth lumbar vertebra."""
    smooth_mm: float = 6.0
    """Finest scale on which the thickness of the wall may change: that of a rib and the space to the next."""
    outlier_mm: float = 4.0
    """Thickness above that of the surroundings that shows an organ at the wall rather than a thicker wall."""
    mixture_mm: float = 2.0
    """Voxels this close to air are mixtures (width of the scanner's point spread) or skin: never fat."""
