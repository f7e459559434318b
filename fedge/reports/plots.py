"""Small plots as inline SVG: they take the colours of the page, need no script, and read aloud.

A plotting library would bring fonts, metadata and fixed colours; a report must follow the reader's dark mode, print to
A4 and hold nothing from elsewhere. Hence these three forms and no more: lines, stacked bars, heat map.
Colours are CSS variables `--c0` … `--c7` of the page; every plot has a title and a description for screen readers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape as escape_html

from fedge.reports.visible import visible

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 12, 40
PALETTE = 8
WIDEST = 72
"""A bar is no wider, however few there are."""
LIGHT_COLOURS = ("#0b57b0", "#b3470b", "#1a7f4b", "#8b2fa0", "#a3162f", "#0f7685", "#6b5d00", "#5a5f68")


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    x_label: str,
    y_label: str,
    limits: Mapping[str, float] | None = None,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Return a line plot of (x, y) points per name; `limits` are dashed horizontal lines by name."""
    points = [p for s in series.values() for p in s if math.isfinite(p[1])]
    if not points:
        return _nothing(title)
    levels = [v for v in (limits or {}).values() if math.isfinite(v)]
    x_low, x_high = _span([x for x, _ in points], pad=0)
    y_low, y_high = y_range or _span([0.0, *(y for _, y in points), *levels], pad=0.12 if levels else 0.06)
    place = _placer(x_low, x_high, y_low, y_high)
    body = [_axes(place, (x_low, x_high), (y_low, y_high), x_label, y_label)]
    for name, level in (limits or {}).items():
        if math.isfinite(level):
            body.append(_level(place, x_low, x_high, level, name))
    for index, (name, values) in enumerate(series.items()):
        body.append(_line(place, values, name, index))
    summary = "; ".join(f"{name}: {_number(v[0][1])} … {_number(v[-1][1])}" for name, v in series.items() if v)
    return _figure(title, summary, "".join(body), list(series))


def bars(stacks: Mapping[str, Mapping[str, float]], title: str, y_label: str) -> str:
    """Return stacked bars: one bar a key of `stacks`, one colour a key of its parts."""
    parts = list(dict.fromkeys(part for stack in stacks.values() for part in stack))
    if not stacks or not parts:
        return _nothing(title)
    y_high = _span([0.0, *(sum(s.values()) for s in stacks.values())])[1]
    place = _placer(0, len(stacks), 0, y_high)
    body = [_axes(place, None, (0, y_high), "", y_label)]
    for index, (name, stack) in enumerate(stacks.items()):
        body.append(_stack(place, index, stack, parts))
        x, y = place(index + 0.5, 0)
        body.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{escape(name)}</text>')
    summary = "; ".join(
        f"{name}: " + ", ".join(f"{p} {_number(v)}" for p, v in s.items()) for name, s in stacks.items()
    )
    return _figure(title, summary, "".join(body), parts)


def timeline(lanes: Mapping[str, Sequence[float]], title: str, x_label: str) -> str:
    """Return a time line: one lane a name, one dot a moment, all on one axis."""
    moments = [x for lane in lanes.values() for x in lane]
    if not moments:
        return _nothing(title)
    left, height = min(260, 24 + 7 * max(map(len, lanes))), 22 * len(lanes) + 44
    low, high = _span(moments, pad=0)
    across = (WIDTH - left - RIGHT) / (high - low)
    body, floor = [], 22 * len(lanes) + 6
    for tick in _ticks(low, high):
        x = left + (tick - low) * across
        body.append(f'<line x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{floor}" class="grid"/>')
        body.append(f'<text x="{x:.1f}" y="{floor + 15}" text-anchor="middle">{_number(tick)}</text>')
    for index, (name, lane) in enumerate(lanes.items()):
        y = 22 * index + 15
        body.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        dots = "".join(f'<circle cx="{left + (x - low) * across:.1f}" cy="{y}" r="3.2"/>' for x in lane)
        body.append(f'<g class="f{index % PALETTE}" fill-opacity="0.75"><title>{escape(name)}</title>{dots}</g>')
    body.append(f'<text x="{(left + WIDTH) / 2}" y="{height - 4}" text-anchor="middle">{escape(x_label)}</text>')
    summary = "; ".join(f"{name}: {_number(min(lane))} … {_number(max(lane))}" for name, lane in lanes.items() if lane)
    return _svg(title, summary, "".join(body), height)


def heat(rows: Mapping[str, Mapping[str, float]], title: str) -> str:
    """Return a heat map, rows by columns, darker for more; each cell says its number."""
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    top = max((v for row in rows.values() for v in row.values()), default=0)
    if top <= 0:
        return _nothing(title)
    left, cell = 110, min(64.0, (WIDTH - 130) / len(columns))
    height = 24 * len(rows) + 28
    body = []
    for r, (name, row) in enumerate(rows.items()):
        y = 24 * r
        body.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        for c, column in enumerate(columns):
            share = row.get(column, 0) / top
            body.append(
                f'<rect x="{left + c * cell:.1f}" y="{y}" width="{cell - 2:.1f}" height="22" '
                f'class="f0" fill-opacity="{0.06 + 0.9 * share:.2f}"/>'
                f'<text x="{left + (c + 0.5) * cell - 1:.1f}" y="{y + 16}" text-anchor="middle" '
                f'class="{"inverse" if share > 0.5 else ""}">{_number(row.get(column, 0))}</text>'
            )
    for c, column in enumerate(columns):
        x = left + (c + 0.5) * cell - 1
        body.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{escape(column)}</text>')
    summary = "; ".join(f"{n}: " + ", ".join(f"{k} {_number(v)}" for k, v in row.items()) for n, row in rows.items())
    return _svg(title, summary, "".join(body), height)


def _line(place: _Place, values: Sequence[tuple[float, float]], name: str, index: int) -> str:
    shown = [place(x, y) for x, y in values if math.isfinite(y)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in shown)
    colour = index % PALETTE
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" class="f{colour}"/>' for x, y in shown)
    return f'<g><title>{escape(name)}</title><polyline points="{path}" class="s{colour}" fill="none"/>{dots}</g>'


def _level(place: _Place, x_low: float, x_high: float, level: float, name: str) -> str:
    (x1, y), (x2, _) = place(x_low, level), place(x_high, level)
    return (
        f'<line x1="{x1:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y:.1f}" class="level dashed">'
        f"<title>{escape(name)}: {_number(level)}</title></line>"
        f'<text x="{x1 + 6:.1f}" y="{y - 5:.1f}">{escape(name)}</text>'
    )


def _stack(place: _Place, index: int, stack: Mapping[str, float], parts: Sequence[str]) -> str:
    drawn, base = [], 0.0
    half = min(0.32, WIDEST / 2 / (place(1, 0)[0] - place(0, 0)[0]))
    for part, value in stack.items():
        (x1, y1), (x2, y2) = place(index + 0.5 - half, base + value), place(index + 0.5 + half, base)
        drawn.append(
            f'<rect x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{max(0.0, y2 - y1):.1f}" '
            f'class="f{parts.index(part) % PALETTE}"><title>{escape(part)}: {_number(value)}</title></rect>'
        )
        base += value
    return "".join(drawn)


class _Place:
    """Maps data to the plotting area, y upwards."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float) -> None:
        self._x, self._y = (x_low, x_high - x_low or 1), (y_low, y_high - y_low or 1)

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        """Return the position of (x, y) in the drawing."""
        across = (x - self._x[0]) / self._x[1] * (WIDTH - LEFT - RIGHT)
        up = (y - self._y[0]) / self._y[1] * (HEIGHT - TOP - BOTTOM)
        return LEFT + across, HEIGHT - BOTTOM - up


_placer = _Place


def _axes(
    place: _Place, x_span: tuple[float, float] | None, y_span: tuple[float, float], x_label: str, y_label: str
) -> str:
    drawn = []
    for tick in _ticks(*y_span):
        _, y = place(0, tick)
        drawn.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="grid"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in _ticks(*x_span, whole=True) if x_span else []:
        x, _ = place(tick, 0)
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_number(tick)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    drawn.append(f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    turn = (HEIGHT - BOTTOM + TOP) / 2
    drawn.append(
        f'<text x="12" y="{turn}" text-anchor="middle" transform="rotate(-90 12 {turn})">{escape(y_label)}</text>'
    )
    return "".join(drawn)


def _ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    if high <= low:
        return [low]
    raw = (high - low) / count
    scale = 10 ** math.floor(math.log10(raw))
    step = next(scale * m for m in (1, 2, 5, 10) if scale * m >= raw)
    step = max(1.0, round(step)) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _span(values: Sequence[float], pad: float = 0.06) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high + (high - low) * pad) if high > low else (low, low + 1)


def _figure(title: str, summary: str, body: str, names: Sequence[str]) -> str:
    legend = "".join(
        f'<li><span class="key b{i % PALETTE}" aria-hidden="true"></span>{escape(n)}</li>' for i, n in enumerate(names)
    )
    key = f'<ul class="legend">{legend}</ul>' if len(names) > 1 else ""
    return _svg(title, summary, body, HEIGHT, key)


def _svg(title: str, summary: str, body: str, height: float, key: str = "") -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><desc>{escape(summary)}</desc>{body}</svg>{key}</figure>'
    )


def escape(text: str, *, quote: bool = True) -> str:
    """Return `text` as it can stand in a drawing: visible, and no markup; XML knows no control characters."""
    return escape_html(visible(text), quote=quote)


def _nothing(title: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption><p>Nothing was recorded.</p></figure>"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "no number" if math.isnan(value) else "infinity"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3g}"


def standalone(figure: str) -> str | None:
    """Return the drawing in `figure` as an SVG file of its own, light, or None if nothing was recorded."""
    start, end = figure.find("<svg "), figure.find("</svg>")
    if start < 0:
        return None
    drawing = figure[start:end].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, _, body = drawing.partition(">")
    names = re.findall(r"</span>(.*?)</li>", figure)
    head, body = _with_legend(head, body, names)
    colours = "".join(f".s{i}{{stroke:{c}}}.f{i}{{fill:{c}}}" for i, c in enumerate(LIGHT_COLOURS))
    style = (
        "text{font:12px sans-serif;fill:#1b1f24}.grid{stroke:#d5dae0}.level{stroke:#1b1f24}"
        ".dashed{stroke-dasharray:5 4}"
        f"polyline{{stroke-width:2}}{colours}"
    )
    return f'{head}><style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{body}</svg>\n'


def _with_legend(head: str, body: str, names: Sequence[str]) -> tuple[str, str]:
    """Return the drawing with its legend below it: on a page that is a list, in a file it must be drawn."""
    height = float(re.findall(r'viewBox="0 0 \d+ ([\d.]+)"', head)[0])
    slot = max([118, *(24 + 7 * len(name) for name in names)])
    across = max(1, (WIDTH - LEFT) // slot)
    rows = -(-len(names) // across)
    for i, name in enumerate(names):
        x, y = LEFT + (i % across) * slot, height + 14 + 18 * (i // across)
        body += f'<rect x="{x}" y="{y - 9}" width="10" height="10" class="f{i % PALETTE}"/>'
        body += f'<text x="{x + 15}" y="{y}">{name}</text>'
    return head.replace(f"0 0 {WIDTH} {height:g}", f"0 0 {WIDTH} {height + 18 * rows + (8 if rows else 0):g}"), body
