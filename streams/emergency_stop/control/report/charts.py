"""Charts as SVG: horizontal bars, and lines over time. The table beside each one says the same in numbers."""

from __future__ import annotations

from html import escape
from typing import Final

from emergency_stop.control.report.sections import Answer, Plot, shown

_WIDTH: Final = 760
_LABEL_WIDTH: Final = 210
_VALUE_WIDTH: Final = 90
_ROW_HEIGHT: Final = 22
_HEIGHT: Final = 220
_MARGIN: Final = 70
_COLOURS: Final = ("first", "second")
_LABEL_CHARACTERS: Final = 30


def bars(answer: Answer, plot: Plot) -> str:
    """A bar per row, as long as its share of the longest; of a percentage, as its share of 100."""
    name = plot.values[0]
    values = [float(row[name] or 0) for row in answer.rows]
    highest = _highest(values, plot)
    room = _WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    drawn = []
    for place, (row, value) in enumerate(zip(answer.rows, values, strict=True)):
        top, length = place * _ROW_HEIGHT, room * value / highest
        label = str(row[plot.label])
        cut = label if len(label) <= _LABEL_CHARACTERS else f"{label[: _LABEL_CHARACTERS - 1]}…"
        drawn.append(
            f'<text x="{_LABEL_WIDTH - 8}" y="{top + 15}" text-anchor="end">{escape(cut)}</text>'
            f'<rect class="first" x="{_LABEL_WIDTH}" y="{top + 4}" width="{length:.1f}" height="14"/>'
            f'<text x="{_LABEL_WIDTH + length + 6:.1f}" y="{top + 15}">{escape(shown(row[name], plot.unit))}</text>'
        )
    return _svg(answer, "".join(drawn), len(values) * _ROW_HEIGHT)


def lines(answer: Answer, plot: Plot) -> str:
    """A line per value; a row without one interrupts it."""
    count = len(answer.rows)
    found = [float(row[name]) for row in answer.rows for name in plot.values if row[name] is not None]
    highest = _highest(found, plot)
    right, bottom = _WIDTH - _MARGIN, _HEIGHT - 30
    drawn = [
        f'<line class="axis" x1="{_MARGIN}" y1="{y:.0f}" x2="{right}" y2="{y:.0f}"/>'
        f'<text x="{_MARGIN - 8}" y="{y + 4:.0f}" text-anchor="end">{escape(shown(value, plot.unit))}</text>'
        for value, y in ((0, bottom), (highest / 2, (bottom + 20) / 2), (highest, 20))
    ]
    for colour, name in zip(_COLOURS, plot.values, strict=False):
        points = [
            (
                _MARGIN + (right - _MARGIN) * place / max(count - 1, 1),
                bottom - (bottom - 20) * float(row[name]) / highest,
            )
            if row[name] is not None
            else None
            for place, row in enumerate(answer.rows)
        ]
        drawn += [_polyline(run, colour) for run in _runs(points)]
        last = next((point for point in reversed(points) if point), None)
        heading = next(column.heading for column in answer.section.columns if column.name == name)
        if last is not None:
            drawn.append(f'<text x="{last[0] + 8:.1f}" y="{last[1] + 4:.1f}">{escape(heading)}</text>')
    for place, anchor in ((0, "start"), (count - 1, "end")):
        x = _MARGIN if not place else right
        label = escape(str(answer.rows[place][plot.label]))
        drawn.append(f'<text x="{x}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{label}</text>')
        if count == 1:
            break
    return _svg(answer, "".join(drawn), _HEIGHT)


def _runs(points: list[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _polyline(run: list[tuple[float, float]], colour: str) -> str:
    """A lone point would be a line of no length, so it is a dot."""
    if len(run) == 1:
        return f'<circle class="{colour}" cx="{run[0][0]:.1f}" cy="{run[0][1]:.1f}" r="3"/>'
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
    return f'<polyline class="{colour}" points="{points}"/>'


def _highest(values: list[float], plot: Plot) -> float:
    return 100.0 if plot.unit.value == "percent" else max(values, default=0) or 1.0


def _svg(answer: Answer, drawn: str, height: int) -> str:
    name = escape(answer.section.key)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img"'
        f' aria-labelledby="{name}-chart"><title id="{name}-chart">{escape(answer.section.title)}; the table has'
        f" the numbers</title>{drawn}</svg>"
    )
