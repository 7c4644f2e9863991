"""A report as one page that needs nothing else: no script, no font, no image from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from emergency_stop.control.report.charts import bars, lines
from emergency_stop.control.report.sections import Answer, shown

_STYLE: Final = """
:root { color-scheme: light dark; --text: #1a1d21; --muted: #596168; --ground: #ffffff; --line: #d5d9dd;
  --first: #0b5cad; --second: #b3470b; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8ea; --muted: #a2a9b0; --ground: #14171a; --line: #3a4046;
  --first: #6cb2ff; --second: #ff9d66; } }
body { color: var(--text); background: var(--ground); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 64rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
p, caption { color: var(--muted); } caption { text-align: left; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0; text-align: left; white-space: nowrap; }
.number { text-align: right; }
svg { display: block; height: auto; margin: 1rem 0; max-width: 100%; }
svg text { fill: var(--text); font: 12px system-ui, sans-serif; }
.first { fill: var(--first); stroke: var(--first); } .second { fill: var(--second); stroke: var(--second); }
polyline { fill: none !important; stroke-width: 2; } .axis { stroke: var(--line); }
"""


def render(answers: Sequence[Answer], *, days: int, made_at: str, cluster: str) -> str:
    """The whole page as HTML. ``made_at``: for people."""
    title = f"Emergency stops of {cluster}, the last {days} days"
    contents = "".join(
        f'<li><a href="#{answer.section.key}">{escape(answer.section.title)}</a></li>' for answer in answers
    )
    body = "".join(_section(answer) for answer in answers)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f'<p>Made at {escape(made_at)}. Times are UTC.</p><nav aria-label="Sections"><ul>{contents}</ul></nav>'
        f"{body}</main></body></html>\n"
    )


def _section(answer: Answer) -> str:
    section = answer.section
    name = escape(section.key)
    head = f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(section.title)}</h2>'
    if not answer.rows:
        return f"{head}<p>{escape(section.meaning)}</p><p>Nothing in this period.</p></section>"
    drawn = ""
    if section.plot is not None:
        drawn = (lines if section.plot.over_time else bars)(answer, section.plot)
    return f"{head}{drawn}{_table(answer)}</section>"


def _table(answer: Answer) -> str:
    columns = answer.section.columns
    heads = "".join(
        f'<th scope="col"{_aligned(column.unit.is_number)}>{escape(column.heading)}</th>' for column in columns
    )
    rows = "".join(
        "<tr>"
        + "".join(
            _cell(shown(row[column.name], column.unit), first=not place, number=column.unit.is_number)
            for place, column in enumerate(columns)
        )
        + "</tr>"
        for row in answer.rows
    )
    hidden = answer.found - len(answer.rows)
    more = f"<p>{hidden:,} more are not shown.</p>" if hidden else ""
    caption = escape(answer.section.meaning)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(answer.section.title)}"><table>'
        f"<caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{more}"
    )


def _cell(text: str, *, first: bool, number: bool) -> str:
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    return f"<{tag}{scope}{_aligned(number)}>{escape(text)}</{tag}>"


def _aligned(number: bool) -> str:
    return ' class="number"' if number else ""
