"""Write the generated tables of docs/rules.md anew: fields from the schemas, functions from the language itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from docs.tables import filled
from emergency_stop.rules.environment import SIGNATURES, Signature
from emergency_stop.rules.fields import Field, Kind, catalogue, short
from emergency_stop.rules.language import RuleError, compile_rule

PAGE = Path(__file__).with_name("rules.md")
REFUSED = 'avg(helth_score, "60s") < 40.0\n  && count(detection, "5m") > 2.5'


def page() -> str:
    """The page with its tables as they should be."""
    return filled(PAGE, {"functions": _functions(), "fields": _fields(), "refused": _refused()})


def _functions() -> str:
    head = "| function | value | type |\n|---|---|---|\n"
    return head + "".join(
        f"| `{one.usage}` | {one.meaning}{_of(one.kinds)} | {_result(one)} |\n" for one in SIGNATURES.values()
    )


def _result(signature: Signature) -> str:
    return signature.result.name().lower() if signature.result else "the field's; double for int"


def _of(kinds: tuple[Kind, ...]) -> str:
    return f" of a field of type {', '.join(kinds[:-1])} or {kinds[-1]}" if kinds else ""


def _fields() -> str:
    names = catalogue()
    times = Counter(field.name for field in names.fields)
    everywhere = [name for name, count in times.items() if count == len(names.topics)]
    rows = "".join(_row(field) for field in names.fields if field.name not in everywhere)
    common = ", ".join(f"`{name}`" for name in everywhere)
    return f"| field | bare | type | meaning |\n|---|---|---|---|\n{rows}\nEvery topic also has the texts {common}.\n"


def _row(field: Field) -> str:
    bare = catalogue().spelling(field.topic, field.name) == field.name
    symbols = f": {', '.join(f'`{symbol}`' for symbol in field.symbols)}" if field.symbols else ""
    return f"| `{short(field.topic)}.{field.name}` | {'yes' if bare else ''} | {field.kind}{symbols} | {field.doc} |\n"


def _refused() -> str:
    try:
        compile_rule(REFUSED)
    except RuleError as error:
        return f"```text\n{REFUSED}\n\n{error}\n```\n"
    raise ValueError("the example of a refused rule is accepted: choose another one")


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
