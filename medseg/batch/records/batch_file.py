"""batch.json, what runs in a folder, and private/folder.json, where its scans lie: read, written, and compared with what was there."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.batch.records.environment import differences
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.core.errors import InputError, OutputError, UnreadableFileError
from medseg.io.atomic import TEMPORARY_PREFIX, write_text

FOLDER_SCHEMA = "medseg.folder/1"
_MOST_SAID = 8
SALT_BYTES = 32
_WORDS_OF_A_PIPELINE = ("pipeline.title:", "pipeline.description:")


@dataclass(frozen=True)
class BatchFile:
    """What a folder holds: the plan, and every environment in which something of it ran, the first one first."""

    plan: Plan
    environments: tuple[Mapping[str, Any], ...] = ()


def read_batch(layout: Layout) -> BatchFile | None:
    """Return what a folder runs, None where it is no folder of a batch; raises UnreadableFileError."""
    try:
        content = json.loads(layout.batch.read_bytes())
        return BatchFile(Plan.from_dict(content), tuple(dict(entry) for entry in content.get("environments", ())))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, InputError) as err:
        raise UnreadableFileError(
            f"{layout.batch.name} in the output folder is not that of a batch of this medseg ({type(err).__name__}): "
            "give another folder, or remove the file to have it written anew; results that fit are kept"
        ) from err


def write_batch(layout: Layout, plan: Plan, before: BatchFile | None, now: Mapping[str, Any]) -> None:
    """Write what runs now; untouched where it is the same plan in an environment that is known."""
    known = before.environments if before is not None else ()
    environments = known if dict(now) in [dict(entry) for entry in known] else (*known, now)
    if before is not None and before.plan.key == plan.key and len(environments) == len(known):
        return
    document = {**plan.to_dict(), "key": plan.key, "environments": [dict(entry) for entry in environments]}
    write_text(layout.batch, json.dumps(document, indent=1, ensure_ascii=True) + "\n", overwrite=True)


def changes(before: BatchFile, plan: Plan, now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return in words what differs from the last run: in the plan (its cases are done again), and in the libraries (they stay)."""
    said = list(_differing(before.plan.to_dict(), plan.to_dict()))
    said = [line for line in said if not line.startswith(_WORDS_OF_A_PIPELINE)] or said
    if len(said) > _MOST_SAID:
        said = [*said[:_MOST_SAID], f"{len(said) - _MOST_SAID} more"]
    return said, differences(before.environments[-1], now) if before.environments else []


def write_source(layout: Layout, folder: Path) -> None:
    """Record where the scans lie, in the private part."""
    document = {"schema": FOLDER_SCHEMA, "folder": str(folder)}
    text = json.dumps(document, ensure_ascii=True) + "\n"
    try:
        if layout.source.read_text(encoding="ascii") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass  # not there yet, or not ours: it is written
    write_text(layout.source, text, overwrite=True)
    layout.source.chmod(0o600)


def read_source(layout: Layout) -> Path | None:
    """Return where the scans lay when they were last searched, None where that is not recorded."""
    try:
        return Path(str(json.loads(layout.source.read_bytes())["folder"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def known_salt(layout: Layout) -> bytes | None:
    """Return what makes the pseudonyms of this folder, None where it keeps nothing yet."""
    try:
        salt = layout.salt.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as err:
        raise OutputError(f"private/{layout.salt.name} cannot be read ({err.strerror}): check its permissions") from err
    if len(salt) not in (0, SALT_BYTES):
        raise UnreadableFileError(
            f"private/{layout.salt.name} is not what was written there: bring it back from a copy, or remove it; pseudonyms are new then"
        )
    return salt or None


def keep_salt(layout: Layout, salt: bytes) -> bytes:
    """Make the private folder and keep a salt there; return the one that holds: of two runs that start together one wins."""
    temporary = layout.private / f"{TEMPORARY_PREFIX}salt-{secrets.token_hex(8)}"
    try:
        layout.private.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout.private.chmod(0o700)
        if layout.salt.exists() and layout.salt.stat().st_size:
            return layout.salt.read_bytes()
        temporary.write_bytes(salt)
        temporary.chmod(0o600)
        try:
            os.link(temporary, layout.salt)
        except FileExistsError:  # another run was first; or it lost what was in it when the machine went down
            if not layout.salt.stat().st_size:
                temporary.replace(layout.salt)
        except OSError:  # a file system without links
            temporary.replace(layout.salt)
        return layout.salt.read_bytes()
    except OSError as err:
        raise OutputError(f"{layout.private} cannot be written ({err.strerror}): check the folder and its permissions") from err
    finally:
        temporary.unlink(missing_ok=True)


def _differing(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Yield "pipeline.segment.parameters.lower: 100, now 150" for every leaf of two JSON documents that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted({*before, *now}):
            yield from _differing(before.get(name), now.get(name), f"{where}.{name}" if where else str(name))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            yield from _differing(old, new, f"{where}[{index}]")
    elif before != now:
        yield f"{where}: {_short(before)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = "not given" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
