"""Charts as inline SVG: drawn by us, coloured by the page's style sheet, so that dark is dark."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from rlhf.report.records import Estimate

_WIDTH, _HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 8, 22
_ROW = 36
_MOST_POINTS = 400
NUM_COLOURS = 6
DASH = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one line, or the values of one histogram; None breaks a line."""

    name: str
    y: Sequence[float | None]
    x: Sequence[float] = ()


def number(value: float, digits: int = 3) -> str:
    """``value`` for a reader: three digits that count, and a true minus."""
    if not math.isfinite(value):
        return DASH
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    else:
        text = f"{value:,.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round numbers between ``low`` and ``high``."""
    span = high - low
    rough = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class _Axes:
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def draw(self, *, y_labels: bool = True) -> str:
        parts: list[str] = []
        for tick in ticks(self.y_low, self.y_high) if y_labels else ():
            y = self.y(tick)
            parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" class="end">{number(tick)}</text>')
        base = _HEIGHT - _BOTTOM
        parts.append(f'<path class="axis" d="M{_LEFT} {base}H{_WIDTH - _RIGHT}"/>')
        for tick in ticks(self.x_low, self.x_high):
            x = self.x(tick)
            parts.append(f'<path class="axis" d="M{x} {base}v4"/>')
            parts.append(f'<text x="{x}" y="{base + 16}" class="mid">{number(tick)}</text>')
        return "".join(parts)


def lines(title: str, series: Sequence[Series]) -> str:
    """Curves over a common x; nothing where no point is a number."""
    curves = [_thinned(s) for s in series]
    points = [p for curve in curves for p in curve if p is not None]
    if not points:
        return ""
    axes = _Axes(*_span(x for x, _ in points), *_span(y for _, y in points))
    drawn = [axes.draw()]
    for index, curve in enumerate(curves):
        path, dots = _path(axes, curve)
        drawn.append(f'<path class="line c{index % NUM_COLOURS}" d="{path}"/>')
        drawn += [
            f'<circle class="dot c{index % NUM_COLOURS}" cx="{x}" cy="{y}" r="2.5"/>'
            for x, y in dots
        ]
    return _figure(title, "".join(drawn), {i: s.name for i, s in enumerate(series)})


def histograms(title: str, series: Sequence[Series], num_bins: int = 24) -> str:
    """One histogram per series that holds any number, one above the other, on a common scale."""
    values = [v for s in series for v in s.y if v is not None and math.isfinite(v)]
    if not values:
        return ""
    low, high = _span(values)
    counts = {i: _binned(s, low, high, num_bins) for i, s in enumerate(series)}
    counts = {i: bins for i, bins in counts.items() if any(bins)}
    tallest = max(map(max, counts.values()))
    axes = _Axes(low, high, 0, 1)
    band = (_HEIGHT - _TOP - _BOTTOM) / len(counts)
    drawn = [axes.draw(y_labels=False)]
    for row, (colour, bins) in enumerate(counts.items(), start=1):
        floor = _TOP + band * row
        drawn.append(_bars(axes, floor, bins, (band - 4) / tallest, colour))
        drawn.append(_mean(axes, series[colour], floor, band - 2))
    return _figure(title, "".join(drawn), {i: series[i].name for i in counts})


def columns(title: str, heights: Sequence[float], names: Sequence[str]) -> str:
    """One bar per number, each with its name on it, the first and the last name below."""
    if not heights:
        return ""
    axes = _Axes(0, len(heights), 0, max(*heights, 1e-9))
    base, room = _HEIGHT - _BOTTOM, (_WIDTH - _LEFT - _RIGHT) / len(heights)
    gap = 1 if room > 3 else 0
    drawn: list[str] = []
    for tick in ticks(0, axes.y_high, 3):
        drawn.append(f'<path class="grid" d="M{_LEFT} {axes.y(tick)}H{_WIDTH - _RIGHT}"/>')
        drawn.append(
            f'<text x="{_LEFT - 6}" y="{axes.y(tick) + 4}" class="end">{number(tick)}</text>'
        )
    for i, (height, name) in enumerate(zip(heights, names, strict=True)):
        if height:
            at = f"M{axes.x(i)} {base}V{axes.y(height)}h{room - gap:.2f}V{base}z"
            told = f"<title>{escape(name)}: {number(height)}</title>"
            drawn.append(f'<path class="bar c0" d="{at}">{told}</path>')
    drawn.append(f'<path class="axis" d="M{_LEFT} {base}H{_WIDTH - _RIGHT}"/>')
    drawn.append(f'<text x="{_LEFT}" y="{base + 16}">{escape(names[0])}</text>')
    if len(names) > 1:
        right = _WIDTH - _RIGHT
        drawn.append(f'<text x="{right}" y="{base + 16}" class="end">{escape(names[-1])}</text>')
    return _figure(title, "".join(drawn), {})


def forest(title: str, rows: Sequence[tuple[str, Estimate]], middle: float = 0.0) -> str:
    """A point and its interval for each name, on a common scale with a line at ``middle``.

    An interval without end runs to the edge.
    """
    ends = [v for _, e in rows for v in (e.value, e.low, e.high) if math.isfinite(v)]
    if not ends:
        return ""
    low, high = _span([*ends, middle])
    room = (high - low) * 0.04
    axes = _Axes(low - room, high + room, 0, 1)
    height = _TOP + len(rows) * _ROW + _BOTTOM
    base = height - _BOTTOM
    drawn = [f'<path class="axis" d="M{_RIGHT} {base}H{_WIDTH - _RIGHT}"/>']
    for tick in ticks(axes.x_low, axes.x_high):
        x = _wide(axes, tick)
        drawn.append(f'<path class="grid" d="M{x} {_TOP}V{base}"/>')
        drawn.append(f'<text x="{x}" y="{base + 16}" class="mid">{number(tick)}</text>')
    drawn.append(f'<path class="mean" d="M{_wide(axes, middle)} {_TOP}V{base}"/>')
    for i, (name, estimate) in enumerate(rows):
        y = _TOP + i * _ROW + 26
        edges = (axes.x_low, axes.x_high)
        ends = [
            end if math.isfinite(end) else edge
            for end, edge in zip((estimate.low, estimate.high), edges, strict=True)
        ]
        drawn += [
            f'<text x="{_RIGHT}" y="{y - 12}" class="name">{escape(name)}</text>',
            f'<text x="{_WIDTH - _RIGHT}" y="{y - 12}" class="end">{with_range(estimate)}</text>',
            f'<path class="range" d="M{_wide(axes, ends[0])} {y}H{_wide(axes, ends[1])}"/>',
            f'<circle class="dot c0" cx="{_wide(axes, estimate.value)}" cy="{y}" r="4"/>',
        ]
    return _figure(title, "".join(drawn), {}, height)


def with_range(estimate: Estimate) -> str:
    """A number and its interval to two decimals; the number alone where the interval is endless."""
    value, low, high = (
        f"{v:z.2f}".replace("-", "\N{MINUS SIGN}")
        for v in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]" if math.isfinite(estimate.low + estimate.high) else value


def _wide(axes: _Axes, value: float) -> float:
    """Where ``value`` is, on a scale that leaves no room for labels at its side."""
    share = (value - axes.x_low) / (axes.x_high - axes.x_low)
    return round(_RIGHT + share * (_WIDTH - 2 * _RIGHT), 1)


def interval(estimate: Estimate, middle: float = 0.5) -> str:
    """A small bar from 0 to 1: the point, its interval, and a line at ``middle``."""
    low, high, at = (round(100 * v, 1) for v in (estimate.low, estimate.high, estimate.value))
    return (
        '<svg class="interval" viewBox="-3 0 106 12" aria-hidden="true">'
        '<path class="grid" d="M0 6H100"/>'
        f'<path class="axis" d="M{100 * middle} 0v12"/>'
        f'<path class="range" d="M{low} 6H{high}"/><circle class="dot c0" cx="{at}" cy="6" r="3"/>'
        "</svg>"
    )


def _bars(axes: _Axes, floor: float, bins: Sequence[int], scale: float, index: int) -> str:
    width = (_WIDTH - _LEFT - _RIGHT) / len(bins)
    drawn = [
        f"M{axes.x(axes.x_low) + i * width:.1f} {floor:.1f}v-{n * scale:.1f}"
        f"h{width - 1:.1f}v{n * scale:.1f}z"
        for i, n in enumerate(bins)
        if n
    ]
    return f'<path class="bar c{index % NUM_COLOURS}" d="{"".join(drawn)}"/>'


def _mean(axes: _Axes, series: Series, floor: float, height: float) -> str:
    present = [v for v in series.y if v is not None and math.isfinite(v)]
    mean = sum(present) / len(present)
    return (
        f'<path class="mean" d="M{axes.x(mean)} {floor:.1f}v-{height:.1f}">'
        f"<title>{escape(series.name)}: mean {number(mean)}</title></path>"
    )


def _binned(series: Series, low: float, high: float, num_bins: int) -> list[int]:
    counts = [0] * num_bins
    for value in series.y:
        if value is not None and math.isfinite(value):
            place = int((value - low) / (high - low) * num_bins)
            counts[min(max(place, 0), num_bins - 1)] += 1
    return counts


def _span(values: Iterable[float]) -> tuple[float, float]:
    """Smallest and largest, held apart where they are equal or differ by rounding only."""
    found = list(values)
    low, high = min(found), max(found)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        room = abs(low) * 0.05 or 0.5
        return low - room, high + room
    return low, high


def _thinned(series: Series) -> list[tuple[float, float] | None]:
    """At most so many points as the eye can tell apart; gaps stay gaps."""
    xs = series.x or range(len(series.y))
    points = [
        (float(x), y) if y is not None and math.isfinite(y) else None
        for x, y in zip(xs, series.y, strict=True)
    ]
    step = math.ceil(len(points) / _MOST_POINTS)
    kept = points[::step]
    if step > 1 and points[-1] not in kept[-1:]:
        kept.append(points[-1])
    return kept


def _path(
    axes: _Axes, curve: Sequence[tuple[float, float] | None]
) -> tuple[str, list[tuple[float, float]]]:
    """The line, and the points to mark: all of a short curve, else those that stand alone."""
    parts: list[str] = []
    dots: list[tuple[float, float]] = []
    for i, point in enumerate(curve):
        if point is None:
            continue
        at = axes.x(point[0]), axes.y(point[1])
        starts = i == 0 or curve[i - 1] is None
        ends = i == len(curve) - 1 or curve[i + 1] is None
        parts.append(f"{'M' if starts else 'L'}{at[0]} {at[1]}")
        if len(curve) <= 12 or (starts and ends):
            dots.append(at)
    return "".join(parts), dots


def _figure(title: str, drawn: str, names: Mapping[int, str], height: int = _HEIGHT) -> str:
    key = "".join(
        f'<span><i class="c{i % NUM_COLOURS}"></i>{escape(name)}</span>'
        for i, name in names.items()
        if len(names) > 1
    )
    return (
        f'<figure><figcaption>{escape(title)}<div class="key">{key}</div></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{drawn}'
        "</svg></figure>"
    )
