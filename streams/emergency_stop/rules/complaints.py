"""What CEL's library says of a text that it refuses, said in the words of rules: what, why and what next.

A complaint that is not known here is passed on as it is.
"""

from __future__ import annotations

import re
from typing import Final

from emergency_stop.rules.environment import SIGNATURES
from emergency_stop.rules.fields import NOT_FIELDS, Catalogue
from emergency_stop.rules.model import WHOLE_MAX, Function
from emergency_stop.rules.problems import Problems, name_at, nearest

_COMPLAINT: Final = re.compile(r"^(?:INVALID_ARGUMENT: )?ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE)
_TAIL: Final = re.compile(r"( \(in container ''\))?( \[[A-Z_]+\])?$")
_NO_OVERLOAD: Final = re.compile(r"found no matching overload for '(.+)' applied to '\((.*)\)'")
_UNDECLARED: Final = re.compile(r"undeclared reference to '(.*)'")
_SYNTAX: Final = re.compile(r"Syntax error: (.*?)(?: expecting (.*))?$")
_FUNCTIONS: Final = ", ".join(Function)
#: What other languages call the functions, and how they write CEL's signs.
_SYNONYMS: Final = {
    "mean": Function.AVG,
    "average": Function.AVG,
    "total": Function.SUM,
    "unique": Function.DISTINCT,
    "rate": Function.RATIO,
    "latest": Function.LAST,
    "missing": Function.ABSENT,
}
_INSTEAD: Final = {"and": "&&", "or": "||", "not": "!", "=": "==", "&": "&&", "|": "||", "<>": "!=", "'": '"'}


def translate(message: str, names: Catalogue, problems: Problems) -> None:
    """Add a problem for every complaint in the library's message."""
    for line, column, raw in _COMPLAINT.findall(message):
        if int(line) > 0:
            place = _offset(problems.text, int(line), int(column))
            problems.add(*_told(problems.text, place, _TAIL.sub("", raw), names))
    if not problems.found:
        deep = "recursion" in message
        first = message.split("\n", 1)[0]
        problems.add(0, "nested more than 32 deep; simplify it, or use two rules" if deep else first)


def _offset(text: str, line: int, column: int) -> int:
    start = sum(len(before) + 1 for before in text.split("\n")[: line - 1])
    return min(start + column - 1, len(text))


def _told(text: str, place: int, raw: str, names: Catalogue) -> tuple[int, str]:
    """The place, moved to the start of the name that is meant, and the words."""
    if found := _UNDECLARED.fullmatch(raw):
        start, _ = name_at(text, place)
        return start, _undeclared(text, place, found[1], names)
    if found := _NO_OVERLOAD.fullmatch(raw):
        is_call = not found[1].startswith(("_", "!", "-", "@"))
        return name_at(text, place)[0] if is_call else place, _mismatch(found[1], found[2])
    if "cannot be the operand of a select operation" in raw:
        start, dotted = name_at(text, place)
        return start, _unknown_field(dotted, names)
    if found := _SYNTAX.fullmatch(raw):
        return place, _syntax(found[1], text)
    if raw == "invalid int literal":
        return place, f"the number is out of range: whole numbers are allowed up to 2^53, {WHOLE_MAX}"
    if raw.startswith("reserved identifier"):
        return place, f"{raw.rpartition(' ')[2]} is a reserved word of CEL: it cannot be a name here"
    return place, raw


def _undeclared(text: str, place: int, name: str, names: Catalogue) -> str:
    if text[place : place + 1] == "(":
        if name in list(Function):
            return f"{name} is called with a wrong number of arguments, or on a value: {_usage(Function(name))}"
        instead = f"; did you mean {_SYNONYMS[name]}?" if name in _SYNONYMS else nearest(name, Function)
        return f"no function {name}{instead} (functions: {_FUNCTIONS})"
    if name in list(Function):
        return f"{name} is a function: {_usage(Function(name))}"
    return _unknown_field(name, names)


def _unknown_field(name: str, names: Catalogue) -> str:
    """``name`` may be bare, ``topic.field``, or begin with the topic's full name."""
    bare = name.rpartition(".")[2]
    if bare in NOT_FIELDS:
        return f"{bare} is no field for rules: {NOT_FIELDS[bare]}"
    if name in names.ambiguous:
        return f"several topics have a field {name}: write {' or '.join(names.ambiguous[name])}"
    topic = name.partition(".")[0]
    if name in names.topics:
        return f'{name} is a topic: write count({name}, "60s") or absent({name}, "60s")'
    if topic in names.topics:
        own = [field.name for field in names.fields if field.qualified.startswith(f"{topic}.")]
        return f"topic {topic} has no field {name.partition('.')[2]}{nearest(bare, own)} (fields: {', '.join(own)})"
    known = [*names.names, *names.topics]
    guess = nearest(name, known) or nearest(".".join(name.split(".")[-2:]), known) or nearest(bare, known)
    return f"no field or topic {name}{guess} (topics: {', '.join(names.topics)}; fields: topic.field)"


def _usage(function: Function) -> str:
    kinds = SIGNATURES[function].kinds
    field = f", where field is {_any_of(kinds)}" if kinds else ""
    return f"write {SIGNATURES[function].usage}{field}"


def _any_of(kinds: tuple[str, ...]) -> str:
    return f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def _mismatch(name: str, applied: str) -> str:
    types = applied.split(", ")
    if name in list(Function):
        if types[0] == "string" and SIGNATURES[Function(name)].kinds:
            types[0] = "enum"  # what its fields are to CEL
        return f"{name} does not take ({', '.join(types)}): {_usage(Function(name))}"
    sign = name.replace("@", "").replace("_", " ").strip()
    what = f"`{sign}` does not go with {' and '.join(types)}"
    if "text" in types:
        return f"{what}: a text field can only be counted, with distinct"
    if "topic" in types:
        return f'{what}: a topic can only be counted, as in count(topic, "60s"), or be absent'
    if "double" in types and "int" in types:
        return f"{what}: write constants with a point, such as 40.0, or convert with double()"
    if name == "_%_":
        return f"{what}: it divides whole numbers only"
    return f"{what}: both sides must be of one type that has it"


def _syntax(what: str, text: str) -> str:
    token = re.search(r"'(.*)'", what, re.DOTALL)
    sign = token[1].strip() if token else ""
    if not text.strip():
        return "the rule is empty: write a condition"
    if what.startswith("missing"):
        return f"{what.replace(chr(39) + '<EOF>' + chr(39), 'the end')}"
    if sign == "<EOF>":
        return "the rule ends where more is expected"
    if sign.startswith(('"', "'")):
        return f"the text {sign} does not end, or has an unknown escape"
    instead = _INSTEAD.get(sign.lower())
    return f"{sign} is not expected here" + (f": CEL writes {instead}" if instead else "")
