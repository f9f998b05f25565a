"""Which kind of file system a folder lies on: some promises hold on local disks only."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
# what is served by another machine or shared between several
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|ncpfs|afs|9p|virtiofs|lustre|gpfs|beegfs\w*|fhgfs|ceph|glusterfs|orangefs|pvfs2|panfs|ocfs2|gfs2|wekafs|vastnfs"
    r"|fuse\.(?!fuse-overlayfs|overlay)\S+"
)


def is_on_network(folder: Path, mounts: Path = _MOUNTS) -> bool:
    """Return whether a folder lies on a network file system; False where the system does not say."""
    kind = file_system_of(folder, mounts)
    return _NETWORK.fullmatch(kind) is not None


def file_system_of(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Return the kind of the file system of a folder, such as "ext4"; "" where the system does not say."""
    path = os.path.realpath(folder)
    best, kind = -1, ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, what = before.split(), after.split()
        if len(fields) < 5 or not what:
            continue
        point = _unescaped(fields[4])
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= best:  # of two mounts at one place the later one covers the earlier
            best, kind = len(point), what[0]
    return kind


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
