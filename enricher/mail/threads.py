"""Message ids, and the conversation that they make (RFC 5322 3.6.4)."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ID = re.compile(r"<([^<>]*)>")
_ONE = re.compile(r"<([^<>\s]+)>")
_SPACE = re.compile(r"\s+")
_BARE = re.compile(r"[^\s<>@,;\"()\[\]]+@[^\s<>@,;\"()\[\]]+")
# Of brackets without end each is looked at thrice, and not all that follow.
_RUN = re.compile(r"(?:<{1,3}+[^<>]*+>{1,3}+[\s,;]*+)++")
# A mail has a few dozen; a hostile one is not to fill the memory of its readers.
MOST_IDS = 1000
_LONGEST = 500_000


def ids(value: str) -> tuple[str, ...]:
    """The message ids in a header, without brackets; each once, in order.

    Words are none: an id stands in brackets, or the header has nothing but ids. Of very many the last count.
    """
    value = value[-_LONGEST:].strip().strip(",;")
    if not value:
        return ()
    one = _ONE.fullmatch(value)
    if one is not None:
        return (one[1],)
    if not _RUN.fullmatch(value) and (runs := list(_RUN.finditer(value))):
        # Among words an address may stand in brackets, too: ids are those before all words, or after them.
        value = "".join([run[0] for run in runs if run.start() == 0 or run.end() == len(value)])
        if not value:
            return ()
    found = [each for each in map(_id, _ID.findall(value)[-MOST_IDS:]) if each]
    if not found:
        bare = value.replace(",", " ").split()[-MOST_IDS:]
        if not all(_BARE.fullmatch(word) for word in bare):
            return ()
        found = bare
    return tuple(dict.fromkeys(found))


def _id(inside: str) -> str:
    """What brackets hold, without folds; nothing where it is a sentence."""
    if "@" not in inside and _SPACE.search(inside.strip()):
        return ""
    return _SPACE.sub("", inside)


def bare_id(message_id: str) -> str:
    """A message id without brackets and white space: what tells mails apart."""
    found = _ID.search(message_id)
    return _SPACE.sub("", found[1] if found else message_id)


def thread_of(references: Sequence[str], in_reply_to: Sequence[str], own: str) -> str | None:
    """The id of the mail that began the conversation: the oldest one that is named."""
    for named in (*references[:1], *in_reply_to[:1]):
        return named
    return bare_id(own) if own else None
