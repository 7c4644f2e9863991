"""A report in the terminal: a table per section, and bars of what matters in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

from rich.bar import Bar
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emergency_stop.control.report.sections import Answer, Plot, shown

_WIDTH_OF_FILES: Final = 120
_BAR_WIDTH: Final = 40


def show(answers: Sequence[Answer], file: Any = None) -> None:
    """Print all sections; without colours where nobody looks."""
    out = file or sys.stdout
    console = Console(file=out, width=None if out.isatty() else _WIDTH_OF_FILES, highlight=False)
    for answer in answers:
        console.print()
        console.print(Text(answer.section.title, style="bold"))
        console.print(Text(answer.section.meaning, style="dim"))
        if not answer.rows:
            console.print("nothing in this period")
            continue
        console.print(_table(answer))
        if answer.found > len(answer.rows):
            console.print(f"{answer.found - len(answer.rows):,} more are not shown")
        if answer.section.plot is not None:
            console.print(_bars(answer, answer.section.plot))


def _table(answer: Answer) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in answer.section.columns:
        table.add_column(column.heading, justify="right" if column.unit.is_number else "left", overflow="fold")
    for row in answer.rows:
        table.add_row(*(Text(shown(row[column.name], column.unit)) for column in answer.section.columns))
    return table


def _bars(answer: Answer, plot: Plot) -> Table:
    """A bar per row, of the last of the plot's values: of two quantiles the higher one."""
    name = plot.values[-1]
    heading = next(column.heading for column in answer.section.columns if column.name == name)
    highest = max((float(row[name] or 0) for row in answer.rows), default=0) or 1.0
    grid = Table.grid(padding=(0, 1))
    grid.add_row("", Text(heading, style="dim"), "")
    for row in answer.rows:
        value = float(row[name] or 0)
        grid.add_row(Text(str(row[plot.label])), Bar(highest, 0, value, width=_BAR_WIDTH), shown(row[name], plot.unit))
    return grid
