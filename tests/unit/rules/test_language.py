"""What a rule may say, and how one that may not be used is refused."""

from __future__ import annotations

import os
from random import Random

import pytest

from emergency_stop.rules.language import AggregateCall, Function, Predicate, RuleError, compile_rule, describe

SEED = int(os.environ.get("SEED", "20"))
HEALTH, DETECTION, PLATFORM, PROXY = "telemetry.health", "telemetry.detection", "telemetry.platform", "telemetry.proxy"


def call(
    function: Function,
    topic: str,
    field: str = "",
    window_ms: int = 60_000,
    *,
    of: tuple[Predicate, ...] = (),
    where: tuple[Predicate, ...] = (),
    depth: int = 0,
) -> AggregateCall:
    return AggregateCall(
        function, topic, field, of, where, window_ms, depth, function in (Function.COUNT, Function.DISTINCT)
    )


FAILED = (Predicate("outcome", "==", 1.0),)
ACCEPTED: list[tuple[str, list[AggregateCall]]] = [
    (
        'avg(health_score, "60s") < 40.0 && count(detection, "5m") >= 2',
        [call(Function.AVG, HEALTH, "health_score"), call(Function.COUNT, DETECTION, "", 300_000, depth=3)],
    ),
    (
        'ratio(platform.outcome == "failed", "2m", platform.kind == "api_call") > 0.5',
        [call(Function.RATIO, PLATFORM, "", 120_000, of=FAILED, where=(Predicate("kind", "==", 0.0),))],
    ),
    ('absent(health, "30s")', [call(Function.ABSENT, HEALTH, "", 30_000)]),
    ("last(health_score) < 5.0", [call(Function.LAST, HEALTH, "health_score", 0)]),
    (
        'distinct(proxy.proxy_id, "10m", proxy.outcome == "failed") >= 3',
        [call(Function.DISTINCT, PROXY, "proxy_id", 600_000, where=FAILED, depth=4)],
    ),
    (
        'avg(health_score, "60s") - avg(health_score, "5m") < -30.0',
        [call(Function.AVG, HEALTH, "health_score"), call(Function.AVG, HEALTH, "health_score", 300_000)],
    ),
    ('last(detection.severity) == "critical"', [call(Function.LAST, DETECTION, "severity", 0)]),
    ('last(severity) in ["high", "critical"]', [call(Function.LAST, DETECTION, "severity", 0)]),
    ("last(status_code) == 429.0", [call(Function.LAST, PLATFORM, "status_code", 0)]),
]
ROWS = [
    ('severity >= "high"', (Predicate("severity", ">=", 2.0),)),
    ('"high" <= severity', (Predicate("severity", ">=", 2.0),)),
    ("confidence < 0.5", (Predicate("confidence", "<", 0.5),)),
    (
        'severity != "low" && confidence > 0.9 && severity != "low"',
        (Predicate("confidence", ">", 0.9), Predicate("severity", "!=", 0.0)),
    ),
    (
        'severity in ["critical", "medium"]',
        (Predicate("severity", "!=", 2.0), Predicate("severity", "<=", 3.0), Predicate("severity", ">=", 1.0)),
    ),
]


@pytest.mark.parametrize(("text", "wanted"), ACCEPTED)
def test_a_rules_aggregates_are_read(text: str, wanted: list[AggregateCall]) -> None:
    assert list(compile_rule(text).aggregates) == wanted


@pytest.mark.parametrize(("rows", "wanted"), ROWS)
def test_conditions_on_rows_are_sorted_comparisons(rows: str, wanted: tuple[Predicate, ...]) -> None:
    (aggregate,) = compile_rule(f'count(detection, "5m", {rows}) > 0').aggregates
    assert aggregate.where == wanted


@pytest.mark.parametrize(
    ("window", "window_ms"), [("1s", 1_000), ("1500ms", 1_500), ("5m", 300_000), ("2h", 7_200_000), ("24h", 86_400_000)]
)
def test_windows_are_from_a_second_to_a_day(window: str, window_ms: int) -> None:
    assert compile_rule(f'absent(health, "{window}")').aggregates[0].window_ms == window_ms


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        # compared with constants only: one more than the largest tells all of them apart
        ("{count} >= 2", 3),
        ("2 <= {count}", 3),
        ("{count} == 0", 1),
        ("{count} > -5", 1),
        ("{count} in [1, 7, 3]", 8),
        ("{count} > 1 && ({count} < 9 || {count} == 4)", 10),
        ("{count} >= 999", 1_000),
        # else a count has no limit, and a distinct count ends at a hundred
        ("{count} >= 1000", 0),
        ("{count} + 1 > 2", 0),
        ("{count} > 1 && double({count}) > 3.0", 0),
        ("{count} > {other}", 0),
        ("{distinct} >= 3", 4),
        ("{distinct} in [998, 999]", 1_000),
        ("{distinct} * 2 > 3", 100),
        ("{distinct} * 2 > 3 && {distinct} < 200", 201),
    ],
)
def test_counts_are_as_deep_as_what_they_are_compared_with(text: str, depth: int) -> None:
    parts = {"count": 'count(health, "60s")', "other": 'count(system, "60s")', "distinct": 'distinct(proxy_id, "60s")'}
    assert compile_rule(text.format(**parts)).aggregates[0].depth == depth


def test_an_aggregate_that_occurs_twice_is_read_once_and_in_order_of_first_appearance() -> None:
    """However a name is spelled, and whichever side of a comparison it is on."""
    rule = compile_rule('max(risk_score, "60s") > avg(health.health_score, "60s") && avg(health_score, "1m") < 3.0')
    assert [one.function for one in rule.aggregates] == [Function.MAX, Function.AVG]


def test_rules_of_one_text_are_equal_and_hash_alike() -> None:
    text = 'avg(health_score, "60s") < 40.0'
    assert compile_rule(text) == compile_rule(text)
    assert len({compile_rule(text), compile_rule(text), compile_rule(text.replace("40.0", "41.0"))}) == 2


FIX_FLOAT = "write constants with a point, such as 40.0"
WINDOW = 'write a number and ms, s, m or h in quotes, such as "60s"'
REFUSED = [
    # names
    ('avg(helth_score, "60s") < 40.0', "1:5", "did you mean health_score"),
    (
        'avg(health.helth_score, "60s") < 40.0',
        "1:5",
        "topic health has no field helth_score; did you mean health_score",
    ),
    ('avg(telemetry.health.health_score, "60s") < 4.0', "1:5", "did you mean health.health_score"),
    ('avg(outcome, "60s") < 1.0', "1:5", "write proxy.outcome or platform.outcome"),
    ('count(detektion, "5m") > 1', "1:7", "did you mean detection"),
    ('cuont(detection, "5m") > 1', "1:1", "no function cuont; did you mean count"),
    ('mean(health_score, "5m") > 1.0', "1:1", "did you mean avg"),
    ("last(health.occurred_at) > 1.0", "1:6", "time is what windows are about"),
    ('distinct(account_id, "5m") > 1', "1:10", "one account at a time"),
    ("avg < 3.0", "1:1", "avg is a function: write avg(field, window[, rows])"),
    # arguments
    ("avg(health_score) < 40.0", "1:1", "wrong number of arguments"),
    ("avg(health_score, 60) < 40.0", "1:1", "avg does not take (double, int)"),
    ('avg(proxy_id, "60s") < 40.0', "1:1", "avg does not take (text, string)"),
    ('max(kind, "60s") > 1.0', "1:1", "max does not take (enum, string)"),
    ('avg(health_score * 2.0, "60s") < 40.0', "1:18", "avg needs the name of a field"),
    ('avg(avg(health_score, "60s"), "60s") < 40.0', "1:5", "avg needs the name of a field"),
    ('count(health_score, "60s") > 1', "1:1", "write count(topic, window[, rows])"),
    ('last(health_score, "60s") < 5.0', "1:1", "write last(field[, rows])"),
    ("last(proxy_id) == 1.0", "1:1", "last does not take (text)"),
    ('health.avg("60s") < 3.0', "1:1", "or on a value"),
    ('ratio("failed", "5m") > 0.5', "1:1", "write ratio(rows, window[, rows])"),
    # windows
    ('avg(health_score, "60") < 40.0', "1:19", f'"60" is no window: {WINDOW}'),
    ('avg(health_score, "1d") < 40.0', "1:19", WINDOW),
    ('avg(health_score, "999ms") < 40.0', "1:19", 'out of range: allowed are "1s" to "24h"'),
    ('avg(health_score, "25h") < 40.0', "1:19", 'out of range: allowed are "1s" to "24h"'),
    ('avg(health_score, "6" + "0s") < 40.0', "1:23", "must be a constant"),
    # conditions on rows
    ('count(detection, "5m", severity > "hgh") > 1', "1:35", 'no symbol "hgh"; did you mean high'),
    ('count(detection, "5m", kind == "other") > 1', "1:24", "the aggregate is over detection"),
    ('ratio(platform.outcome == "ok", "5m", proxy.outcome == "ok") > 0.5', "1:39", "sees the fields of its own topic"),
    ('count(health, "5m", health_score > 1.0 || risk_score > 1.0) > 1', "1:40", "joins them with &&"),
    ('count(detection, "5m", !(severity == "high")) > 1', "1:24", "compares fields with constants"),
    ('count(detection, "5m", count(health, "5m") > 1) > 1', "1:24", "compares fields with constants"),
    ('count(detection, "5m", confidence > confidence) > 1', "1:37", "only be compared with a constant"),
    ('count(detection, "5m", confidence > 1) > 1', "1:35", FIX_FLOAT),
    (
        'count(detection, "5m", detection_type == "captcha") > 1',
        "1:39",
        "text field can only be counted, with distinct",
    ),
    ('count(platform, "5m", status_code in [500, 502]) > 1', "1:35", "among the symbols of an enum"),
    ('count(platform, "5m", status_code > 9007199254740993) > 1', "1:37", "up to 2^53"),
    # types
    ('avg(health_score, "60s") < 40', "1:26", FIX_FLOAT),
    ('count(detection, "5m") > 2.5', "1:24", FIX_FLOAT),
    ('avg(health_score, "5m") % 2.0 > 1.0', "1:25", "divides whole numbers only"),
    ('absent(health, "30s") && 1', "1:23", "`&&` does not go with bool and int"),
    ('!count(health, "5m")', "1:1", "`!` does not go with int"),
    ("last(health_score)", "1:1", "but this is double: compare it, as in ... < 40.0"),
    ('  count(health, "5m")', "1:3", "but this is int: compare it, as in ... > 2"),
    ("last(severity)", "1:1", "can only be compared with a constant"),
    ("last(severity) == last(severity)", "1:23", "can only be compared with a constant"),
    ('last(severity) == "hihg"', "1:19", "did you mean high? (symbols: low, medium, high, critical)"),
    ('last(severity) > "low"', "1:16", 'last(detection.severity) in ["high", "critical"]'),
    ("last(severity) in []", "1:16", "a list of 1 to 64 constants"),
    ('count(health, "5m") in [1, 2.0]', "1:21", "must be of the type of what is left"),
    ('count(health, "5m") in [count(system, "5m")]', "1:30", "constants only"),
    ('distinct(proxy_id, "5m") > 1000', "1:1", "distinct tells at most 999 values apart"),
    ('count(health, "5m") > 9007199254740993', "1:23", "up to 2^53"),
    ('count(health, "5m") > 99999999999999999999', "1:23", "up to 2^53"),
    ('avg(health_score, "5m") > 1.0e999', "1:27", "too large for a double"),
    # fields and topics by themselves, and rules without telemetry
    ("health_score < 40.0", "1:1", 'write last(health_score) or avg(health_score, "60s")'),
    ("health == health", "1:8", "can be compared"),
    ("detection", "1:1", 'write count(detection, "60s") or absent(detection, "60s")'),
    ("1 < 2", "1:1", "reads no telemetry"),
    # what CEL has and rules do not
    ('size("abc") == 3', "1:1", "size is not available in rules; allowed: avg, min"),
    ('"abc".startsWith("a")', "1:7", "startsWith is not available in rules"),
    ('"a" + "b" == "ab"', "1:11", "a text stands beside the last symbol of an enum only"),
    ('"a" in ["a"]', "1:5", "a text stands beside the last symbol of an enum only"),
    ("[1, 2].all(x, x > 0)", "1:11", "macros, lists, maps"),
    ('{"a": 1}.a == 1', "1:9", "macros, lists, maps"),
    ("has(health.health_score)", "1:1", "is a field"),
    ('timestamp("2020-01-01T00:00:00Z") < timestamp("2021-01-01T00:00:00Z")', "1:35", "can be compared"),
    ("null == null", "1:6", "can be compared"),
    ("[1, 2][0] == 1", "1:7", "[...] is not available in rules"),
    ('int("3") == 3', "1:1", "int() converts numbers only, not string"),
    # syntax
    ("", "1:1", "the rule is empty"),
    ("1 +", "1:4", "ends where more is expected"),
    ('absent(health, "30s"', "1:21", "missing ')' at the end"),
    ('absent(health, "30s)', "1:16", "does not end"),
    ('absent(health, "30s") and true', "1:23", "CEL writes &&"),
    ('absent(health, "30s") = true', "1:23", "CEL writes =="),
    ("if true", "1:1", "reserved word"),
    ('absent(health,\n  "30s") &&\n  nope', "3:3", "no field or topic nope"),
    ("absent(\x00)", "1:8", "use printable characters"),
    ("x" * 4_001, "1:4001", "allowed are 4000"),
    ("(" * 40 + "true" + ")" * 40, "1:1", "nested more than 32 deep"),
    ("-" * 3_999 + "1", "1:1", "this is int"),
    (" || ".join(f'absent(health, "{n}s")' for n in range(1, 34)), "1:792", "33 different aggregates; allowed are 32"),
]


@pytest.mark.parametrize(("text", "place", "words"), REFUSED)
def test_a_rule_is_refused_with_place_reason_and_caret(text: str, place: str, words: str) -> None:
    with pytest.raises(RuleError) as refused:
        compile_rule(text)
    told = {problem.split(" ", 1)[0]: problem for problem in refused.value.problems}
    problem = told[f"{place}:"]
    assert words in problem
    _, source, caret = problem.split("\n")
    line, column = (int(number) for number in place.split(":"))
    at = len(caret) - 1
    wanted = (text.split("\n")[line - 1] + " ")[column - 1]
    assert caret.strip() == "^"
    assert (source + " ")[at] == (wanted if wanted.isprintable() else "?"), problem


def test_every_problem_is_told_at_once_in_the_texts_order() -> None:
    with pytest.raises(RuleError) as refused:
        compile_rule('avg(health_score, "1d") < 1.0 && size("a") == 1 && last(severity) == "hihg" && "a" == "b"')
    assert [problem.split(":")[1] for problem in refused.value.problems] == ["19", "34", "70", "84"]
    assert str(refused.value) == "\n".join(refused.value.problems)


WORDS: list[str] = [
    *Function,
    *"health_score health.health_score detection platform.kind severity proxy_id outcome nope x".split(),
    *'"60s" "5m" "high" "x" 1 2.5 -3 1u 1e400 99999999999999999999 true null'.split(),
    *"( ) ( ) , , . [ ] { } ? : + - * / % < <= > >= == != && || ! in double( int( size( has( .all(".split(),
    *("//", "\n", "\\", "'", '"', "="),
]


def problems_of(text: str) -> tuple[str, ...]:
    """What a text is refused for; nothing where it is a rule. Whatever else is raised fails the test."""
    try:
        compile_rule(text)
    except RuleError as refused:
        assert refused.problems, repr(text)  # noqa: PT017 - of many texts; nothing is expected of one
        return refused.problems
    return ()


def soup(random: Random) -> str:
    """Random tokens, random bytes, or a good rule with a hole or a foreign word in it."""
    kind = random.randrange(3)
    if kind == 0:
        return random.choice(("", " ")).join(random.choices(WORDS, k=random.randint(1, 14)))
    if kind == 1:
        return str(random.randbytes(random.randint(1, 40)), random.choice(("latin-1", "utf-16-le")), "replace")
    text, _ = random.choice(ACCEPTED)
    at = random.randrange(len(text))
    return text[:at] + random.choice(WORDS) + text[at + random.randint(0, 5) :]


def test_nothing_that_can_be_written_crashes() -> None:
    """A rule or problems, and nothing else; each problem has its line and caret and can be printed."""
    random = Random(SEED)
    refused = 0
    for _ in range(6_000):
        text = soup(random)
        problems = problems_of(text)
        refused += bool(problems)
        assert all(problem.count("\n") == 2 for problem in problems), f"seed {SEED}: {text!r}: {problems}"
        "".join(problems).encode()
    assert 5_000 < refused < 6_000


def test_a_hit_says_what_every_aggregate_was() -> None:
    rule = compile_rule(
        'avg(health_score, "60s") < 40.0 && count(detection, "5m") >= 2 && last(severity) == "high"'
        ' && absent(system, "1h") && ratio(proxy.outcome == "failed", "90s", latency_ms > 5.0) > 0.5'
        ' && last(status_code, kind == "api_call" && status_code >= 500) > 0.0'
    )
    assert describe(rule, [31.25, 3.0, 2.0, 1.0, None, 503.0]) == (
        'avg(health_score, "60s") = 31.25, count(detection, "5m") = 3, last(severity) = "high",'
        ' absent(system, "60m") = true, ratio(proxy.outcome == "failed", "90s", latency_ms > 5.0) = no value,'
        ' last(status_code, kind == "api_call" && status_code >= 500) = 503'
    )
    with pytest.raises(ValueError, match="shorter"):
        describe(rule, [1.0])


@pytest.mark.parametrize("text", [text for text, _ in ACCEPTED])
def test_a_description_is_itself_a_rules_text(text: str) -> None:
    """So that somebody can copy an aggregate out of a hit."""
    rule = compile_rule(text)
    for aggregate, told in zip(
        rule.aggregates, describe(rule, [1.0] * len(rule.aggregates)).split(" = "), strict=False
    ):
        spelled = told.split(", ", 1)[1] if told[0].isdigit() else told
        condition = {"last(severity)": ' == "low"'}.get(spelled, " > 1" if aggregate.is_int else " > 1.0")
        suffix = "" if aggregate.function is Function.ABSENT else condition
        assert compile_rule(spelled + suffix).aggregates[0].window_ms == aggregate.window_ms
