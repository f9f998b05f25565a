"""The pixels of a thumbnail as codes of colours: loops that numba compiles, a fraction of a millisecond each.

A code below 256 is a level of grey, the next ones are the colours that a picture keeps whatever happens, the others are
bins of alike colours, whose sums are kept: a palette is made of these without another look at the pixels.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LINE = 3  # half pixels that an outline is wide
GREYS = 256  # codes of grey; those of kept colours follow
BINS = 1 << 15  # five bits a channel
_NEUTRAL = 6.0  # channels nearer than this make a pixel grey


@njit(cache=True, nogil=True, inline="always")
def _code_of(red, green, blue, counted):  # type: ignore[no-untyped-def]
    """The code of a colour; one that is not grey is counted in its bin."""
    bins, sums, used, first = counted
    low, high = min(red, green, blue), max(red, green, blue)
    if high - low < _NEUTRAL:
        return int(0.5 * (low + high) + 0.5)
    place = int(red) >> 3 << 10 | int(green) >> 3 << 5 | int(blue) >> 3
    entry = int(bins[place])
    if entry == 0:
        used[0] += 1
        entry = int(used[0])
        bins[place] = entry
        sums[entry - 1, 0] = sums[entry - 1, 1] = sums[entry - 1, 2] = sums[entry - 1, 3] = 0.0
    sums[entry - 1, 0] += red
    sums[entry - 1, 1] += green
    sums[entry - 1, 2] += blue
    sums[entry - 1, 3] += 1.0
    return first + entry - 1


@njit(cache=True, nogil=True)
def _inside(begin, step, count, size):  # type: ignore[no-untyped-def]
    """First half pixel, and the one after the last, of the pixels that a row or column of voxels can reach."""
    first, stop = size, 0
    for n in range(size):
        if 0 <= begin + n * step + 0.5 < count:
            first, stop = min(first, n), n + 1
    return first // 2 * 2, (stop + 1) // 2 * 2


@njit(cache=True, nogil=True)
def _mark_edges(out, edge, part):  # type: ignore[no-untyped-def]
    """Mark what lies within reach, along an axis of the page, of where one label ends and another begins."""
    top, bottom, left, right = part
    for y in range(top, bottom):
        for x in range(left, right):
            label = out[y, x]
            if label < 0:
                continue
            if x > left and label != out[y, x - 1] and out[y, x - 1] >= 0:
                for near in range(max(left, x - LINE), min(right, x + LINE)):
                    edge[y, near] = 1
            if y > top and label != out[y - 1, x] and out[y - 1, x] >= 0:
                for near in range(max(top, y - LINE), min(bottom, y + LINE)):
                    edge[near, x] = 1


@njit(cache=True, nogil=True)
def labels_below(labels, page, out, edge):  # type: ignore[no-untyped-def]
    """Fill `out` (2n, 2n) with the label of the voxel nearest to each half pixel, -1 outside the slice, and `edge` with outlines.

    `page` holds the fractional row and column at the first half pixel, the steps of both downwards, and that of the column
    to the right. An outline lies within reach, along an axis of the page, of another label, but not of the end of the scan.
    Only the part is filled that is returned: first row, stop, first column, stop.
    """
    rows, columns = labels.shape
    size = out.shape[0]
    top, bottom = _inside(page[0], page[2], rows, size)
    left, right = _inside(page[1], page[4], columns, size) if page[3] == 0.0 else (0, size)
    below = np.empty(size, np.int64)
    before = -1
    for y in range(top, bottom):
        row = page[0] + y * page[2] + 0.5
        here = int(row) if 0 <= row < rows else -1
        if y == top or page[3] != 0.0:
            for x in range(left, right):
                column = page[1] + y * page[3] + x * page[4] + 0.5
                below[x] = int(column) if 0 <= column < columns else -1
        is_same = y > top and here == before and page[3] == 0.0
        for x in range(left, right):
            edge[y, x] = 0
            if is_same:
                out[y, x] = out[y - 1, x]
            else:
                out[y, x] = labels[here, below[x]] if here >= 0 and below[x] >= 0 else -1
        before = here
    _mark_edges(out, edge, (top, bottom, left, right))
    return top, bottom, left, right


@njit(cache=True, nogil=True)
def _blend_rows(grey, row, line):  # type: ignore[no-untyped-def]
    """A row of values between two rows of voxels, and the outermost row beyond the last centre."""
    row = min(max(row, 0.0), grey.shape[0] - 1.0)
    a = int(row)
    c = min(a + 1, grey.shape[0] - 1)
    v = np.float32(row - a)
    for x in range(grey.shape[1]):
        line[x] = grey[a, x] * (np.float32(1) - v) + grey[c, x] * v


@njit(cache=True, nogil=True, inline="always")
def _shade(line, column, low, brightness):  # type: ignore[no-untyped-def]
    """The windowed grey, 0 to 255, at a fractional column of a row."""
    column = min(max(column, 0.0), line.size - 1.0)
    b = int(column)
    u = column - b
    value = line[b] * (1 - u) + line[min(b + 1, line.size - 1)] * u
    return min(255.0, max(0.0, (value - low) * brightness))


@njit(cache=True, nogil=True)
def paint_plane(grey, halves, part, page, tones, counted, out):  # type: ignore[no-untyped-def]
    """Fill the `part` of `out` (n, n) that lies in the scan with codes: windowed grey under fill and outline, of four half pixels each.

    `halves` are labels and outlines (2n, 2n) and `part` what `labels_below` gave; `tones` are colours and fill, a row a label, the
    colour outside, whose code `out` holds already, and the window (centre, width). `counted` holds bins, sums, used and first code.
    """
    (labels, edge), (colours, fill, ground, window) = halves, tones
    is_coarse = abs(page[2]) < 0.5 and abs(page[3]) + abs(page[4]) < 0.5  # voxels of many pixels: one value does for all four
    low, brightness = window[0] - 0.5 * window[1], 255.0 / window[1]
    lines = np.empty((2, grey.shape[1]), np.float32)
    shades = np.empty(4)
    for y in range(part[0] // 2, part[1] // 2):
        top = page[0] + 2 * y * page[2]
        start = page[1] + 2 * y * page[3]
        if is_coarse:
            _blend_rows(grey, top + 0.5 * page[2], lines[0])
        else:
            _blend_rows(grey, top, lines[0])
            _blend_rows(grey, top + page[2], lines[1])
        for x in range(part[2] // 2, part[3] // 2):
            a, b, c, d = labels[2 * y, 2 * x], labels[2 * y, 2 * x + 1], labels[2 * y + 1, 2 * x], labels[2 * y + 1, 2 * x + 1]
            if a < 0 and b < 0 and c < 0 and d < 0:
                continue
            column = start + 2 * x * page[4]
            if is_coarse:
                shade = _shade(lines[0], column + 0.5 * (page[3] + page[4]), low, brightness)
                shades[0] = shades[1] = shades[2] = shades[3] = shade
            else:
                shades[0] = _shade(lines[0], column, low, brightness)
                shades[1] = _shade(lines[0], column + page[4], low, brightness)
                shades[2] = _shade(lines[1], column + page[3], low, brightness)
                shades[3] = _shade(lines[1], column + page[3] + page[4], low, brightness)
                shade = 0.25 * (shades[0] + shades[1] + shades[2] + shades[3])
            if a == 0 and b == 0 and c == 0 and d == 0:
                out[y, x] = int(shade + 0.5)
                continue
            red = green = blue = 0.0
            for n in range(4):
                down, right = 2 * y + n // 2, 2 * x + n % 2
                label = labels[down, right]
                if label < 0:
                    red, green, blue = red + ground[0], green + ground[1], blue + ground[2]
                    continue
                share = 0.0 if label == 0 else 1.0 if edge[down, right] else fill[label]
                red += shades[n] * (1 - share) + colours[label, 0] * share
                green += shades[n] * (1 - share) + colours[label, 1] * share
                blue += shades[n] * (1 - share) + colours[label, 2] * share
            out[y, x] = _code_of(0.25 * red, 0.25 * green, 0.25 * blue, counted)


@njit(cache=True, nogil=True)
def code_picture(picture, counted, out):  # type: ignore[no-untyped-def]
    """Fill `out` (height, width) with the codes of a picture (h, w, 3), 0 to 255, linear between the middles of its pixels."""
    _, sums, _, first = counted
    height, width = out.shape
    rows, columns = picture.shape[:2]
    line = np.empty((columns, 3), np.float32)
    below, share = np.empty(width, np.int64), np.empty(width, np.float32)
    for x in range(width):
        column = min(max((x + 0.5) * columns / width - 0.5, 0.0), columns - 1.0)
        below[x] = int(column)
        share[x] = column - below[x]
    for y in range(height):
        row = min(max((y + 0.5) * rows / height - 0.5, 0.0), rows - 1.0)
        upper = int(row)
        lower = min(upper + 1, rows - 1)
        v = np.float32(row - upper)
        for x in range(columns):
            for c in range(3):
                line[x, c] = picture[upper, x, c] + (picture[lower, x, c] - picture[upper, x, c]) * v
        red = green = blue = np.float32(-1)
        code, again = 0, 0
        for x in range(width):
            d = below[x]
            e, u = min(d + 1, columns - 1), share[x]
            r = line[d, 0] + (line[e, 0] - line[d, 0]) * u
            g = line[d, 1] + (line[e, 1] - line[d, 1]) * u
            b = line[d, 2] + (line[e, 2] - line[d, 2]) * u
            if r == red and g == green and b == blue:  # most of a backdrop
                again += 1
            else:
                _count_again(sums, code - first, red, green, blue, again)
                red, green, blue, again = r, g, b, 0
                code = _code_of(red, green, blue, counted)
            out[y, x] = code
        _count_again(sums, code - first, red, green, blue, again)


@njit(cache=True, nogil=True, inline="always")
def _count_again(sums, entry, red, green, blue, times):  # type: ignore[no-untyped-def]
    """Count a colour that was just counted once for more pixels; grey ones are not counted."""
    if times > 0 and entry >= 0:
        sums[entry, 0] += times * red
        sums[entry, 1] += times * green
        sums[entry, 2] += times * blue
        sums[entry, 3] += times


@njit(cache=True, nogil=True)
def nearest_colours(colours, palette):  # type: ignore[no-untyped-def]
    """The entry of a palette (m, 3) that is nearest to each colour (n, 3); the first of equals."""
    out = np.empty(colours.shape[0], np.uint8)
    for n in range(colours.shape[0]):
        best, least = 0, np.float32(1e9)
        for entry in range(palette.shape[0]):
            red, green, blue = palette[entry, 0] - colours[n, 0], palette[entry, 1] - colours[n, 1], palette[entry, 2] - colours[n, 2]
            distance = red * red + green * green + blue * blue
            if distance < least:
                best, least = entry, distance
        out[n] = best
    return out


@njit(cache=True, nogil=True)
def indexed_rows(codes, place):  # type: ignore[no-untyped-def]
    """The rows of a PNG: the place in the palette of each code, after a byte that says that the row is not filtered."""
    height, width = codes.shape
    out = np.empty((height, width + 1), np.uint8)
    for y in range(height):
        out[y, 0] = 0
        for x in range(width):
            out[y, x + 1] = place[codes[y, x]]
    return out
