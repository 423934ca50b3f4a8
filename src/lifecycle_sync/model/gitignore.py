"""One line of gitignore syntax, compiled.

A pattern here matches an entry itself, never what lies below it: whoever asks goes down the path
from the root and stops at the first directory that is ignored, as git does. That is what makes
negation right (`!keep` brings back `keep`, not a litter file inside it). Text is matched, not
bytes, so `?` and `[äö]` stand for one character. Where git silently never matches a malformed
pattern, `compile_pattern` raises: a rule that does nothing is a mistake somebody wants to hear of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# POSIX character classes, in ASCII as git has them.
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r" \t\n\r\f\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


@dataclass(frozen=True, slots=True)
class GitPattern:
    """`regex` is for the whole path from the root where `anchored`, else for the whole name."""

    text: str
    regex: re.Pattern[str]
    negated: bool
    directories_only: bool
    anchored: bool

    def matches(self, path: str, is_directory: bool) -> bool:
        if self.directories_only and not is_directory:
            return False
        subject = path if self.anchored else path.rpartition("/")[2]
        return self.regex.fullmatch(subject) is not None


def compile_pattern(line: str) -> GitPattern | None:
    """The pattern of a line, None for a blank line or a comment.

    Raises `ValueError` with the reason for one that could never match anything. The rules are
    those of gitignore(5).
    """
    if "\n" in line or "\0" in line:
        raise ValueError("it contains a line break or a NUL")
    text = _without_trailing_spaces(line)
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    body = text[negated:]
    directories_only = body.endswith("/")
    if directories_only:
        body = body[:-1]
    anchored = "/" in body
    components = body.removeprefix("/").split("/")
    if "" in components:
        raise ValueError("it has an empty component")
    expression = _path_expression(components) if anchored else _component_expression(body)
    try:
        # DOTALL: a name may contain a line break.
        regex = re.compile(expression, re.DOTALL)
    except re.error as error:
        raise ValueError(str(error)) from error
    return GitPattern(text, regex, negated, directories_only, anchored)


def _without_trailing_spaces(line: str) -> str:
    text = line.rstrip(" ")
    backslashes = len(text) - len(text.rstrip("\\"))
    # An odd one escapes the first space after it.
    return text + " " if backslashes % 2 and len(text) < len(line) else text


def _path_expression(components: list[str]) -> str:
    expression = ""
    for position, component in enumerate(components):
        last = position == len(components) - 1
        if component != "**":
            expression += _component_expression(component) + ("" if last else "/")
        else:
            expression += ".+" if last else "(?:.+/)?"
    return expression


def _component_expression(component: str) -> str:
    pieces = [""]  # what stands between the asterisks
    position = 0
    while position < len(component):
        character = component[position]
        position += 1
        if character == "*":
            # Two of them mean more than one only as a component of their own.
            if pieces[-1] or len(pieces) == 1:
                pieces.append("")
        elif character == "?":
            pieces[-1] += "[^/]"
        elif character == "[":
            bracket, position = _bracket_expression(component, position)
            pieces[-1] += bracket
        elif character == "\\":
            if position == len(component):
                raise ValueError("it ends with a backslash that escapes nothing")
            pieces[-1] += re.escape(component[position])
            position += 1
        else:
            pieces[-1] += re.escape(character)
    if len(pieces) == 1:
        return pieces[0]
    # A piece between asterisks may as well match where it first can: atomic groups keep `*a*a*a*b`
    # from trying everything else.
    between = "".join(f"(?>[^/]*?{piece})" for piece in pieces[1:-1])
    return f"{pieces[0]}{between}[^/]*{pieces[-1]}"


def _bracket_expression(component: str, position: int) -> tuple[str, int]:
    """The set that opens before `position`, and where the text goes on after it."""
    negated = component[position : position + 1] in {"!", "^"}
    first = position = position + negated
    members = ""
    while position < len(component):
        character = component[position]
        position += 1
        if character == "]" and position - 1 > first:
            # No set matches a slash, not even one that has it in a range.
            return f"(?!/)[{'^' if negated else ''}{members}]", position
        if character == "[" and component[position : position + 1] == ":":
            name, closing, _ = component[position + 1 :].partition(":]")
            if not closing or name not in _CLASSES:
                raise ValueError(f"[:{name}:] is no character class")
            members += _CLASSES[name]
            position += len(name) + 3
        elif character == "-" and members and component[position : position + 1] not in {"", "]"}:
            members += "-"
        elif character == "\\" and position < len(component):
            members += re.escape(component[position])
            position += 1
        else:
            members += re.escape(character)
    raise ValueError("it opens a [ that it does not close before the next /")
