"""Texts from outside, made fit to be kept and sent: UTF-8 can carry them, and they have a bound.

What a person, a service or a topic says is copied into every account of an emergency, so one text without a bound would
make records that no broker takes.
"""

from __future__ import annotations

import hashlib
from typing import Final

#: Characters (code points) of a text for people: a reason, a problem, what a handler raised.
TEXT_LENGTH_MAX: Final = 1_000
#: Of what names or refers to something: an id, a person, a version.
NAME_LENGTH_MAX: Final = 256
#: Hexadecimal digits that keep apart two names which are alike as far as they are kept.
_DIGEST_LENGTH: Final = 32


def encodable(text: str) -> str:
    """``text``, with what UTF-8 cannot carry (lone surrogates, of undecodable bytes) written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def fit(text: str, length_max: int = TEXT_LENGTH_MAX) -> str:
    """``text`` so that it can be sent, in ``length_max`` characters at most (100 or more); its end says if it was cut.

    What was made fit before stays as it is.
    """
    kept = encodable(text[:length_max])  # which may be longer, by its escapes
    if len(text) <= length_max and len(kept) <= length_max:
        return kept
    note = f"… (cut: {len(text)} characters, {length_max} are kept)"
    return kept[: length_max - len(note)] + note


def fit_name(name: str, length_max: int = NAME_LENGTH_MAX) -> str:
    """As ``fit``, but different names stay different: the end of one that is cut is a digest of the whole."""
    whole = encodable(name)
    if len(whole) <= length_max:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{whole[: length_max - _DIGEST_LENGTH - 1]}…{digest}"


def described(error: BaseException) -> str:
    """What was raised, for people: its type and its text, made fit."""
    try:
        text = str(error)
    except Exception as another:  # noqa: BLE001  # whatever somebody else's exception does, it must be told of
        text = f"(its text cannot be had: {type(another).__name__})"
    return fit(": ".join(filter(None, (type(error).__name__, text))))
