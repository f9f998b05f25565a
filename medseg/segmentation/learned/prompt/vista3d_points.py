"""VISTA3D's point prompts: one window about each point, encoded once, joined where windows overlap.

The rules are those of `monai.apps.vista3d.inferer.point_based_window_inferer` and of `VISTA3D.forward` for one object.
Arrays have the axes of the image that the network sees; points are indices into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from medseg.method.settings import Progress, no_progress

NOTHING = -9999.0  # score of what no window shows
_POSITIVE, _NEGATIVE = (1, 3), (0, 2)
_MARGINS = 3  # a point this near to a component, in voxels, still belongs to it


@dataclass(frozen=True, eq=False)
class PointPrompt:
    """Points (n, 3) with their kinds (n): 0 outside, 1 inside, 2 and 3 the same for the special classes; and a class or None."""

    points: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.int64]
    class_number: int | None = None
    use_class_branch: bool = False


def point_scores(
    network: Any,
    image: torch.Tensor,
    prompt: PointPrompt,
    patch_size: tuple[int, int, int],
    previous: torch.Tensor | None = None,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Return scores (K, J, I), positive inside, for one object in an image (1, 1, K, J, I) and a previous score or None.

    What no window shows keeps the previous score, or is `NOTHING`.
    """
    missing = [max(0, size - n) for size, n in zip(patch_size, image.shape[2:], strict=True)]
    width = [n for m in reversed(missing) for n in (m // 2, m - m // 2)]
    padded = torch.nn.functional.pad(image, width)
    before = None if previous is None else torch.nn.functional.pad(previous, width).clone()
    moved = prompt.points + np.array([m // 2 for m in missing])
    total = torch.zeros(padded.shape[2:])
    covered = torch.zeros(padded.shape[2:], dtype=torch.bool)
    windows = [_window(point, patch_size, padded.shape[2:]) for point in moved]
    # without a mask that changes on the way, the same window gives the same scores: it is looked at once
    times = {window: windows.count(window) for window in windows}
    order = list(times) if before is None else windows
    for number, window in enumerate(order):
        box = tuple(slice(first, first + size) for first, size in zip(window, patch_size, strict=True))
        with torch.inference_mode():
            scores = _window_scores(network, padded[(slice(None), slice(None), *box)], prompt, moved - window, before, box).float().cpu()
        if before is not None and not prompt.use_class_branch:
            before[box] = scores  # the next window builds on this one
        total[box] += scores if before is not None else scores * times[window]
        covered[box] = True
        progress("segmenting", number + 1, len(order))
    # where windows overlap their scores add up, as in MONAI: only the sign counts in the end
    joined = torch.where(covered, total, torch.full_like(total, NOTHING) if before is None else before)
    return joined[tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, image.shape[2:], strict=True))]


def _window(point: npt.NDArray[np.float64], patch_size: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Where the window about a point begins: the point in its middle, or flush with an end of the image."""
    starts = []
    for p, size, n in zip(point, patch_size, shape, strict=True):
        start = 0 if p - size // 2 < 0 else n - size if p + size // 2 > n else int(p) - size // 2
        starts.append(int(start))
    return tuple(starts)


def _window_scores(
    network: Any,
    patch: torch.Tensor,
    prompt: PointPrompt,
    places: npt.NDArray[np.float64],
    before: torch.Tensor | None,
    box: tuple[slice, ...],
) -> torch.Tensor:
    """The scores of one window, (k, j, i)."""
    held = ((places > 0) & (places < np.asarray(patch.shape[2:]))).all(axis=1)
    device = patch.device
    point_features, class_features = network.image_encoder(patch, with_point=bool(held.any()), with_label=prompt.use_class_branch)
    base = None if before is None else before[box].to(device)
    if prompt.use_class_branch:
        chosen = torch.tensor([[prompt.class_number]], device=device)
        scores, _ = network.class_head(class_features, chosen)
        base = scores[0, 0]
    if not held.any():
        return torch.full(patch.shape[2:], NOTHING) if base is None else base
    coordinates = torch.tensor(places[held], dtype=torch.float32, device=device)[None]
    kinds = torch.tensor(prompt.kinds[held], device=device)[None]
    # without a class the point head takes the object for one of the classes it was trained on, as MONAI's does
    told = None if prompt.class_number is None else torch.tensor([[prompt.class_number]], device=device)
    scores = network.point_head(point_features, coordinates, kinds, class_vector=told)[0, 0]
    return scores if base is None else combined(base, scores, places[held], prompt.kinds[held])


def combined(base: torch.Tensor, scores: torch.Tensor, points: npt.NDArray[np.float64], kinds: npt.NDArray[np.int64]) -> torch.Tensor:
    """Change earlier scores (k,j,i) to those of the points, but only in the changed components that a point lies in."""
    index = np.rint(points).astype(int)
    earlier, now = (base > 0).cpu().numpy(), (scores > 0).cpu().numpy()
    inside = bool(earlier[tuple(np.minimum(index, np.asarray(earlier.shape) - 1).T)].any())
    added = now if inside else now & ~earlier
    removed = earlier & ~now
    pieces = {kind: ndimage.label(mask, np.ones((3, 3, 3)))[0] for kind, mask in (("added", added), ("removed", removed))}
    changed = np.zeros(earlier.shape, bool)
    for place, kind in zip(index, kinds, strict=True):
        labels = pieces["added"] if kind in _POSITIVE else pieces["removed"]
        for margin in range(_MARGINS):
            around = labels[tuple(slice(max(0, p - margin), p + margin + 1) for p in place)]
            if around.any():
                changed |= labels == around.max()
                break
    chosen = torch.from_numpy(changed).to(base.device)
    return torch.where(chosen, scores, base)
