"""The reader of CEL's checked expressions: what it makes of them, and of bytes that are none."""

from __future__ import annotations

import os
from random import Random

import pytest
from cel_expr_python import cel

from emergency_stop.rules.checked_expr import MalformedMessageError, Node, NodeKind, read_checked_expr

SEED = int(os.environ.get("SEED", "20"))
ENV = cel.NewEnv(variables={"x": cel.Type.INT, "a.b": cel.Type.DOUBLE, "s": cel.Type.STRING})


def tree(text: str) -> Node:
    return read_checked_expr(ENV.compile(text).serialize())


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("0", 0, "int"),
        ("-1", -1, "int"),
        ("-9223372036854775808", -(2**63), "int"),
        ("9223372036854775807", 2**63 - 1, "int"),
        ("0.0", 0.0, "double"),
        ("-2.5e-300", -2.5e-300, "double"),
        ("true", True, "bool"),
        ("false", False, "bool"),
        ('""', "", "string"),
        ('"a é 😀"', "a é 😀", "string"),
        ("null", None, "other"),
        ("3u", None, "uint"),
        ('b"a"', None, "other"),
    ],
)
def test_constants_have_their_values_and_types(text: str, value: object, kind: str) -> None:
    node = tree(text)
    assert (node.kind, node.value, node.type) == (NodeKind.CONST, value, kind)
    assert type(node.value) is type(value)


def test_calls_and_names_have_places_in_characters() -> None:
    """``😀`` is four bytes and one character; a sign's place is the sign's, a name's is its own."""
    node = tree('s == "😀" &&\n  x in [1, 2] && a.b > -1.5')
    assert (node.name, node.type, node.place) == ("_&&_", "bool", 26)
    same, among, above = node.args[0].args[0], node.args[0].args[1], node.args[1]
    assert (same.name, same.place) == ("_==_", 2)
    assert (among.name, among.place, among.args[1].kind) == ("@in", 16, NodeKind.LIST)
    assert [item.value for item in among.args[1].args] == [1, 2]
    assert (above.name, above.args[0].name, above.args[0].type) == ("_>_", "a.b", "double")


def test_what_no_rule_has_is_another_kind_and_a_receiver_is_told() -> None:
    assert tree("[1].all(y, y > 0)").kind is NodeKind.OTHER
    assert tree('{"a": 1}').kind is NodeKind.OTHER
    assert tree('s.startsWith("a")').receiver
    assert not tree("size(s) == 1").args[0].receiver


@pytest.mark.parametrize("message", [b"", b"\x0a\x01a", b"\xff", b"\x0a\x05ab", b"\x0b", b"\x08\x01"])
def test_bytes_that_are_no_checked_expression_are_refused(message: bytes) -> None:
    with pytest.raises(MalformedMessageError, match=r"."):
        read_checked_expr(message)


def test_a_mutilated_message_is_read_or_refused() -> None:
    """Never another exception: a library that writes something new is told from a crash."""
    random = Random(SEED)
    whole = ENV.compile('s == "a" && x in [1, 2] || a.b * 2.0 > double(x)').serialize()
    refused = 0
    for number in range(3_000):
        message = bytearray(whole)
        for _ in range(random.randint(1, 3)):
            message[random.randrange(len(message))] = random.randrange(256)
        try:
            read_checked_expr(bytes(message[: random.randint(1, len(message))] if number % 2 else message))
        except MalformedMessageError:
            refused += 1
    assert refused > 1_000
