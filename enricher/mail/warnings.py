"""What a reader should beware of. None of it is wrong by itself: each has honest reasons too."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from enricher.mail.models import Link, Mailbox

SEVERAL_SENDERS = "SeveralSenders"
SENDER_DIFFERS = "SenderDiffers"
REPLY_TO_DIFFERS = "ReplyToDiffers"
ADDRESS_IN_NAME = "AddressInName"
HIDDEN_CHARACTERS = "HiddenCharacters"
LOOK_ALIKE = "LookAlike"
LINK_TEXT_DIFFERS = "LinkTextDiffers"
SCRIPT_LINK = "ScriptLink"

_ADDRESS = re.compile(r"[^\s@<>()\[\],;:\"]+@[^\s@<>()\[\],;:\"]+\.[^\W\d_]+")
_SCRIPTS = ("javascript:", "vbscript:", "data:")
# Controls, what turns the direction of writing, and what has no width: without the joiners of Persian,
# Indian scripts and emoji, and the marks of honest Hebrew and Arabic.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)
_SIGN = re.compile("[@\ufe6b\uff20]")  # as NFKC has it
_OTHER = re.compile("[\u0370-\u058f\u13a0-\u13ff\u1c80-\u1c8f\u1f00-\u1fff\u2de0-\u2dff\ua640-\ua69f]")
_WORDS = re.compile(r"[^\W\d_]+")
_OTHER_SCRIPTS = {"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"}
# Letters of Cyrillic and Greek that are drawn like Latin ones.
_LIKE_LATIN = frozenset("асԁеһіјӏорԛѕԝхуүѵАВЕНІЈКМОРЅТХУοανρυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ")  # noqa: RUF001
_LONGEST = 1000


def warnings(
    from_: Sequence[Mailbox],
    sender: Sequence[Mailbox],
    reply_to: Sequence[Mailbox],
    shown: Iterable[str | None],
    links: Sequence[Link],
) -> Iterator[str]:
    """What is odd about a mail, by name; ``shown`` are its subject and the names of its attachments."""
    addresses = {one.address.lower() for one in from_}
    if len(addresses) > 1:
        yield SEVERAL_SENDERS
    if from_ and sender and any(one.address.lower() not in addresses for one in sender):
        yield SENDER_DIFFERS
    if from_ and any(one.address and one.address.lower() not in addresses for one in reply_to):
        yield REPLY_TO_DIFFERS
    people = (*from_, *sender, *reply_to)[:_LONGEST]
    for one in from_:
        if _names_another(one):
            yield ADDRESS_IN_NAME
            break
    texts = " ".join([f"{one.name} {one.address}" for one in people] + [text for text in shown if text])
    if not texts.isprintable() and _HIDDEN.search(texts):
        yield HIDDEN_CHARACTERS
    foreign = "xn--" in texts or (not texts.isascii() and _OTHER.search(texts))
    if foreign and any(map(_looks_like_another, people)):
        yield LOOK_ALIKE
    if links:
        if any(link.misleading for link in links):
            yield LINK_TEXT_DIFFERS
        if any(link.target.lower().startswith(_SCRIPTS) for link in links):
            yield SCRIPT_LINK


def _names_another(one: Mailbox) -> bool:
    """Whether the name has an address in it that is not the person's, or the address has another one."""
    name = one.name[:_LONGEST]
    if "@" not in name and (name.isascii() or not _SIGN.search(name)):
        return one.address.count("@") > 1
    name = unicodedata.normalize("NFKC", _HIDDEN.sub("", name))
    return any(found.lower() != one.address.lower() for found in _ADDRESS.findall(name))


def _looks_like_another(one: Mailbox) -> bool:
    """Whether a word of the name mixes scripts that look alike, or a label of the address does, or has no
    letters but those that look like others."""
    name, address = one.name[:_LONGEST], one.address[:_LONGEST]
    host = [_label(label) for label in address.rpartition("@")[2].split(".")]
    local = _WORDS.findall(address.rpartition("@")[0])
    return any(map(_mixed, (*_WORDS.findall(name), *local, *host))) or any(
        all(letter in _LIKE_LATIN for letter in label if letter.isalpha())
        for label in host
        if not label.isascii()
    )


def _label(label: str) -> str:
    """A label of a host as it is shown."""
    if label[:4].lower() == "xn--" and len(label) < 64:
        with suppress(UnicodeError):
            return label[4:].encode("ascii").decode("punycode")
    return label


def _mixed(word: str) -> bool:
    if word.isascii():
        return False
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in word if letter.isalpha()}
    return "LATIN" in scripts and not _OTHER_SCRIPTS.isdisjoint(scripts)
