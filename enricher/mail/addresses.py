"""Address lists (RFC 5322 3.4): who a mail is from and to.

A list is cut into members first, at commas and semicolons that stand in no quotes, comments or brackets; then
each member is one person. The address is what stands in angle brackets, and whatever else is there is the
name, addresses too: a sender who calls himself by somebody else's address is one person, not two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from enricher.mail.charsets import words
from enricher.mail.comments import without_comments
from enricher.mail.defects import INVALID_ADDRESS, TOO_MANY_ADDRESSES, Defects
from enricher.mail.models import Mailbox

# "Name <local@domain>" or a bare address, without quotes, comments or groups: nearly all there are.
_SIMPLE = re.compile(
    r'([^<>"(),;:@\\\[\]]*)<([^<>"(),;:@\\\s\[\]]+@[^<>"(),;:@\\\s\[\]]+)>'
    r'|([^<>"(),;:@\\\s\[\]]+@[^<>"(),;:@\\\s\[\]]+)'
)
_QUOTED_NAME = re.compile(r'"([^"\\@]*)"\s*<([^<>"(),;:@\\\s\[\]]+@[^<>"(),;:@\\\s\[\]]+)>')
_ATOM = r'[^\s@<>()\[\],;:"\\\x00-\x1f\x7f]+'
_ADDRESS = re.compile(rf'(?:{_ATOM}|"(?:[^"\\\x00-\x1f]|\\.)+")@(?:{_ATOM}|\[[^\[\]\s\x00-\x1f]+\])')
_LOCAL = re.compile(_ATOM)
_TOKEN = re.compile(
    r'(?P<word>=\?[^?\s]{1,80}\?[bBqQ]\?[^?"]{0,1000}\?=|[^\s"(<>,;:=\[]+|=)|(?P<blank>\s+)|(?P<mark>.)',
    re.DOTALL,
)
# A closing quote is followed by nothing that belongs to a word.
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(?=[\s<>(,;:@.]|\Z)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PARENTHESIS = re.compile(r"[()]|\\.", re.DOTALL)
_ROUTE = re.compile(r"@[^:]*:")
_END_OF_UNCLOSED = re.compile(r"[,;<\s]")
_BETWEEN = re.compile(r"[^,;<]*")
_CODED = re.compile(r"=\?[^?\s]+\?[bq]\?", re.IGNORECASE)
_AROUND = re.compile(r"\s*([.@])\s*")
MOST = 10_000
# Words of one person: a member of a list may have a million, and lists of them hold up the collector.
_MOST_WORDS = 1000
_LONGEST = 1_000_000


class Token(NamedTuple):
    """``kind``: word, quoted, comment, angle, or the separator itself; ``gap``: white space is before it."""

    kind: str
    text: str
    gap: bool = False


def mailboxes(value: str, defects: Defects | None = None) -> tuple[Mailbox, ...]:
    """The mailboxes in ``value`` (as `charsets.plain` gives it), names decoded, groups as their members.

    An address has a local part and no blanks, but those that quotes allow. What has no address at all is kept
    as a name without one, so that nothing the sender said is lost. The first ten thousand are read, of the
    first million characters.
    """
    value = value.strip()
    if not value:
        return ()
    defects = {} if defects is None else defects
    if len(value) > _LONGEST:
        defects[TOO_MANY_ADDRESSES] = None
        value = value[:_LONGEST].rpartition(",")[0] or value[:_LONGEST]
    simple = _simple(value, defects)
    if simple is not None:
        return simple
    found: list[Mailbox] = []
    for member in _with_surnames(_members(value, defects)):
        for one in _people(member, defects):
            if len(found) == MOST:
                defects[TOO_MANY_ADDRESSES] = None
                return tuple(found)
            found.append(one)
    return tuple(found)


def _simple(value: str, defects: Defects) -> tuple[Mailbox, ...] | None:
    match = _SIMPLE.fullmatch(value) or _QUOTED_NAME.fullmatch(value)
    if match is not None:
        name, address, *bare = match.groups()
        if "=?" in (address or bare[0]):
            return None
        return (Mailbox(words(name or "", defects).strip(), address or bare[0]),)
    if '"' in value or "(" in value or ":" in value or "\\" in value or "=?" in value or len(value) > 20_000:
        return None
    found: list[Mailbox] = []
    for part in value.split(","):
        match = _SIMPLE.fullmatch(part.strip())
        if match is None:
            return None
        found.append(Mailbox((match[1] or "").strip(), match[2] or match[3]))
    return tuple(found)


# -- cut into members ----------------------------------------------------------------------------------


def _with_surnames(members: Iterator[tuple[list[Token], str]]) -> Iterator[list[Token]]:
    """The members of a list; ``Doe, John <j@d.example>`` without quotes is one."""
    surname: list[Token] = []
    for member, end in members:
        if surname and member and member[0].kind != "angle" and any(one.kind == "angle" for one in member):
            yield [*surname, Token("word", ","), member[0]._replace(gap=True), *member[1:]]
            surname = []
            continue
        if surname:
            yield surname
        named = end == "," and all(one.kind == "word" and "@" not in one.text for one in member)
        surname = member if named else []
        if not named:
            yield member
    if surname:
        yield surname


def _members(value: str, defects: Defects) -> Iterator[tuple[list[Token], str]]:
    """The members of a list, and what ends each."""
    member: list[Token] = []
    addressed = False  # whether an address is in it
    grouped = value.rfind(";")
    for token, at in _tokens(value):
        if token.kind in (",", ";"):
            yield member, token.kind
            member, addressed = [], False
        elif len(member) >= _MOST_WORDS and ("@" not in token.text or len(member) == MOST):
            defects[TOO_MANY_ADDRESSES] = None
        elif token.kind != ":":
            member.append(token)
            addressed = addressed or "@" in token.text
        # A group's name, or one that a program put before the address. In a name it is a character.
        elif (at < grouped and not addressed) or (member and member[-1].text.lower() == "mailto"):
            member = []
        else:
            member.append(token._replace(kind="word"))
    yield member, ""


def _tokens(value: str) -> Iterator[tuple[Token, int]]:
    """The tokens of a list, and where each begins; what has no end is a word."""
    at, gap = 0, False
    quotes = comments = True
    close = -2  # the next closing bracket, once it was looked for; -1 where there is none
    while at < len(value):
        found = _TOKEN.match(value, at)
        assert found is not None  # noqa: S101  any character is one
        begin, at = at, found.end()
        mark = found["mark"]
        if found["blank"] is not None:
            gap = True
            continue
        token = Token("word", found[0], gap)
        if mark in (",", ";", ":"):
            token = Token(mark, mark, gap)
        elif mark == '"' and quotes and _opens(value, begin):
            quoted = _QUOTED.match(value, begin)
            if quoted is not None:
                token, at = Token("quoted", _ESCAPED.sub(r"\1", quoted[1]), gap), quoted.end()
            else:
                quotes = value.find('"', at) >= 0
        elif mark == "(" and comments:
            end = _end_of_comment(value, begin)
            if end is None:
                comments = False
            else:
                token, at = Token("comment", value[begin + 1 : end - 1], gap), end
        elif mark == "<":
            if -1 != close < begin:
                close = value.find(">", begin)
            again = value.find("<", at, close) if close >= 0 else -1
            if close >= 0 and again < 0:
                token, at = Token("angle", value[begin + 1 : close], gap), close + 1
            else:
                end = _unclosed(value, at, again)
                # What another bracket follows is no address, and nobody's: <boss@bank.example<x@evil.example>
                inside = value[at:end]
                named = inside.strip() and again >= 0 and _BETWEEN.fullmatch(value, end, again)
                token, at = Token("word" if named else "angle", f"<{inside}" if named else inside, gap), end
                if token.kind == "angle" and not token.text.strip():
                    gap = True
                    continue
        elif mark == "[":
            end = value.find("]", at, at + 80) + 1
            if end:
                token, at = Token("word", value[begin:end], gap), end
        elif mark == ">":
            gap = True
            continue
        yield token, begin
        gap = False


def _opens(value: str, at: int) -> bool:
    """Whether a quote stands where a word begins: within one it is a character."""
    return at == 0 or value[at - 1] in " \t,;:<(>.)\""


def _end_of_comment(value: str, begin: int) -> int | None:
    depth = 0
    for mark in _PARENTHESIS.finditer(value, begin):
        if mark[0] == "(":
            depth += 1
        elif mark[0] == ")":
            depth -= 1
            if not depth:
                return mark.end()
    return None


def _unclosed(value: str, start: int, again: int) -> int:
    stop = len(value) if again < 0 else again
    found = _END_OF_UNCLOSED.search(value, start, stop)
    return stop if found is None else found.start()


# -- one member ----------------------------------------------------------------------------------------


def _people(member: Sequence[Token], defects: Defects) -> list[Mailbox]:
    """The person that a member is; several only where it is addresses without a comma between them."""
    if any(token.kind == "angle" for token in member):
        return [person(_name(names), angle, defects) for names, angle in _split(member)]
    return _without_angles(member, defects)


def _split(member: Sequence[Token]) -> list[tuple[list[Token], str]]:
    """Names and address of each: what stands before an address is its name, after the last one too.

    Several addresses after one name are one person: the last is the address, as a mail program shows it.
    """
    found: list[tuple[list[Token], str]] = []
    names: list[Token] = []
    for token in member:
        if token.kind != "angle":
            names.append(token)
            continue
        named = any(one.kind != "comment" for one in names)
        if found and not named and any(one.kind != "comment" for one in found[-1][0]):
            before, address = found.pop()
            before += (Token("word", f"<{address}>", True), *names)
            names = before
        found.append((names, token.text))
        names = []
    if names and found:
        found[-1] = ([*found[-1][0], *names], found[-1][1])
    return found


def person(name: str, written: str, defects: Defects) -> Mailbox:
    """Who is called ``name``, with the address in ``written``; what is none is part of the name."""
    address = _address(written)
    if address is None:
        defects[INVALID_ADDRESS] = None
        return Mailbox(words(f"{name} {written.strip()}".strip(), defects), "")
    return Mailbox(words(name, defects).strip(), address)


def _without_angles(member: Sequence[Token], defects: Defects) -> list[Mailbox]:
    items = _items(member)
    comments = [token for token in member if token.kind == "comment"]
    waiting: list[Token] = []
    people: list[tuple[list[Token], str]] = []
    for item in items:
        if item.kind == "word" and _is_address(item.text):
            people.append((waiting, item.text))
            waiting = []
        else:
            waiting.append(item)
    if not people:
        name = words(_name(items or comments), defects).strip()
        if not name:
            return []
        defects[INVALID_ADDRESS] = None
        return [Mailbox(name, "")]
    last, address = people[-1]
    people[-1] = ([*last, *waiting] or comments, address)
    return [Mailbox(words(_name(names), defects).strip(), address) for names, address in people]


def _items(member: Sequence[Token]) -> list[Token]:
    """Words as they stand: pieces without white space between them are one."""
    runs: list[list[Token]] = []
    for token in member:
        if token.kind == "comment":
            continue
        last = runs[-1][-1] if runs and not token.gap else None
        if last is not None and (
            token.kind == last.kind == "word" or token.text[:1] in "@." or last.text[-1:] in "@."
        ):
            runs[-1].append(token)
        else:
            runs.append([token])
    items = [
        run[0] if len(run) == 1 else Token("word", "".join(map(_written, run)), run[0].gap) for run in runs
    ]
    if len(items) > 1 and any(item.text[:1] in "@." or item.text[-1:] == "@" for item in items):
        # RFC 5322 4.4: white space around the sign and the dots of an address.
        joined = _AROUND.sub(r"\1", " ".join(item.text for item in items))
        if _ADDRESS.fullmatch(joined) and "." in joined.rpartition("@")[2]:
            return [Token("word", joined)]
    return items


def _written(token: Token) -> str:
    return f'"{token.text}"' if token.kind == "quoted" else token.text


def _name(tokens: Sequence[Token]) -> str:
    named = [token for token in tokens if token.kind != "comment"] or tokens
    return "".join((" " if token.gap and n else "") + token.text for n, token in enumerate(named)).strip()


def _is_address(text: str) -> bool:
    """RFC 2047 5: no encoded word is in an address; who decodes it there is led to another one."""
    return _ADDRESS.fullmatch(text) is not None and not _CODED.search(text)


def _address(angle: str) -> str | None:
    """The address between angle brackets; empty for <>, None for what is none."""
    text = angle.strip()
    if text[:7].lower() == "mailto:":
        text = text[7:]
    if not text or _is_address(text):
        return text
    if _CODED.search(text):
        return None
    if "(" in text:
        text = without_comments(text).strip()
    if text.startswith("@"):
        text = _ROUTE.sub("", text, count=1)  # RFC 5322 4.4: by which hosts it shall go
    text = _AROUND.sub(r"\1", text)
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text if _ADDRESS.fullmatch(text) or _LOCAL.fullmatch(text) else None
