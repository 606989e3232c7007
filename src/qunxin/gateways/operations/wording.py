"""What is wrong with a request, in words: the decoder names its own types and patterns, which say
little to whoever typed a name."""

from __future__ import annotations

import re
from typing import Final

from qunxin.model import ID_RULE, NAME_RULE

ID_PATTERN: Final = r"^(?!.*\.\.)[A-Za-z0-9]([A-Za-z0-9_.@-]*[A-Za-z0-9])?$"
NAME_PATTERN: Final = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
CONVERSATION_PATTERN: Final = "^(group|private|broadcast|inbox):"

_RULES: Final = {
    ID_PATTERN: ID_RULE,
    NAME_PATTERN: NAME_RULE,
    CONVERSATION_PATTERN: "group:GROUP, private:USER~USER, broadcast:all or inbox:USER",
}
_PATTERNS: Final = {
    f"Expected `str` matching regex {pattern!r}": rule for pattern, rule in _RULES.items()
}
_PLACED: Final = re.compile(r"(?P<said>.*) - at `\$\.(?P<place>[^`]+)`", re.DOTALL)
_LENGTH: Final = re.compile(r"Expected `(?P<kind>\w+)` of length (?P<sign>[<>]=) (?P<number>\d+)")
_BOUND: Final = re.compile(r"Expected `\w+` (?P<sign>[<>]=?) (?P<number>\S+)")
_SIGNS: Final = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}


def in_words(error: Exception) -> str:
    """The decoder's refusal as one sentence that begins with the field's name, where it is about a
    field; anything else as it is."""
    placed = _PLACED.fullmatch(str(error))
    if placed is None:
        return str(error)
    return f"{placed['place'].replace('[...]', '')}: {_rule(placed['said'])}"


def _rule(said: str) -> str:
    if said in _PATTERNS:
        return _PATTERNS[said]
    if length := _LENGTH.fullmatch(said):
        unit = "character" if length["kind"] == "str" else "item"
        s = "" if length["number"] == "1" else "s"
        return f"{_SIGNS[length['sign']]} {length['number']} {unit}{s}"
    if bound := _BOUND.fullmatch(said):
        return f"{_SIGNS[bound['sign']]} {bound['number']}"
    return said[:1].lower() + said[1:].replace("`", "")
