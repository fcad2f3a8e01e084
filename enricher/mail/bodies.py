"""The parts of a message, sorted into bodies and attachments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from enricher.mail.calendars import events
from enricher.mail.charsets import plain, to_text
from enricher.mail.defects import TOO_MANY_PARTS, UNDECODABLE, Defects
from enricher.mail.mime import Part
from enricher.mail.models import Attachment, Event
from enricher.mail.parameters import split
from enricher.mail.protection import of_text, protection, role

# A mail has a few dozen; a hostile one is not to fill the memory of its readers.
_MOST_PARTS = 1000
_MOST_EVENTS = 100
# How a page names its charset, where its part does not.
_META = re.compile(rb"<meta\s[^>]*?charset\s*=\s*[\"']?([\w:-]+)", re.IGNORECASE)


class Bodies:
    """What a message shows, by type, and what is attached to it."""

    def __init__(self, defects: Defects) -> None:
        self.attachments: list[Attachment] = []
        self.protection: Defects = {}
        self.events: list[Event] = []
        self._defects = defects
        self._texts: dict[str, list[str]] = {}

    def joined(self, kind: str) -> str | None:
        """All texts of a kind in the order shown; None if there is none."""
        found = self._texts.get(kind)
        if found is None:
            return None
        if len(found) == 1:
            return found[0]
        shown = [text for text in found if text.strip()] or found[:1]
        return shown[0] if len(shown) == 1 else "\n".join(shown)

    def read(self, parts: Sequence[Part]) -> None:
        """Look at every part once, in order."""
        for number, part in enumerate(parts):
            if number == _MOST_PARTS:
                self._defects[TOO_MANY_PARTS] = None
                return
            self._read_part(part)

    def _read_part(self, part: Part) -> None:
        if part.defects:
            self._defects.update(dict.fromkeys(part.defects))
        kind = part.kind
        disposition, filename = "", None
        if "content-disposition" in part.about:
            disposition, more = split(plain(part.about["content-disposition"], self._defects), self._defects)
            filename = more.get("filename") or more.get("name")
        filename = filename or part.parameters.get("name") or None
        if kind in ("text/plain", "text/html") and disposition in ("", "inline"):
            charset = part.parameters.get("charset")
            if charset is None and kind == "text/html" and not part.data.isascii():
                meta = _META.search(part.data[:1024])
                charset = None if meta is None else meta[1].decode("ascii")
            text, explained = to_text(part.data, charset)
            if not explained:
                self._defects[UNDECODABLE] = None
            self._texts.setdefault(kind, []).append(text)
            if kind == "text/plain" and "-----BEGIN PGP" in text[:200]:
                self._protected(of_text(text))
            if filename is None:
                return  # one that has a name is shown, and can be saved too
        purpose = role(part)
        self._protected(protection(purpose))
        if purpose == "calendar" or (filename or "").lower().endswith(".ics"):
            said = part.parameters
            calendar = events(part.data, said.get("charset"), said.get("method"), self._defects)
            self.events += islice(calendar, _MOST_EVENTS - len(self.events))
        self.attachments.append(
            Attachment(
                filename=filename,
                content_type=kind,
                disposition=disposition or None,
                content_id=plain(part.about.get("content-id", "")).strip("<> ") or None,
                size=len(part.data),
                role=purpose,
            )
        )

    def _protected(self, how: str | None) -> None:
        if how is not None:
            self.protection[how] = None
