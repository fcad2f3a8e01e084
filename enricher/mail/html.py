"""HTML as safe text, and its links with where they really lead.

The tokens are those of the HTML standard (13.2.5); no tree is built, since a hostile one takes time that
grows with the square of its depth. Text is what is shown: no scripts, no styles, no signs that turn the
direction of writing. It is text, not HTML: whoever puts it into a page escapes it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from html import unescape
from urllib.parse import urljoin, urlsplit

from enricher.mail.defects import LONG_HTML, TOO_MANY_LINKS, Defects
from enricher.mail.models import Link

LONGEST = 1_000_000
_MOST_LINKS = 1000
_NAME = re.compile(r"</?[a-zA-Z][^\s/>]*")
_TAG = re.compile(r"""<(/?[a-zA-Z][^\s/>]*+)((?:[^>"']++|"[^"]*+"|'[^']*+')*+)>""")
# Any character is one, or the end of a search through white space would be the beginning of the next.
_ATTRIBUTE = re.compile(
    r"""[\s/]*+(?:([^\s/>=]+)(?:\s*+=\s*+(?:"([^"]*)"|'([^']*)'|([^\s>]*)))?|[>=]|$)"""
)
_ENDS = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in (
    "script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes", "template", "svg", "math"
)}  # fmt: skip
_BREAKS = frozenset({
    *("address", "article", "aside", "blockquote", "body", "br", "center", "dd", "details", "dialog"),
    *("dir", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "h1", "h2", "h3", "h4"),
    *("h5", "h6", "header", "hgroup", "hr", "li", "main", "menu", "nav", "ol", "option", "p", "pre"),
    *("section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul"),
})
_BREAKS |= {f"/{name}" for name in _BREAKS}
_CELLS = frozenset({"td", "th"})
# Controls, and what turns or hides text: Unicode's bidirectional marks and its characters without width.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+"
)
_SPACES = re.compile(r" {2,}")
_BLANK_LINES = re.compile(r"\n{3,}")
_STRIPPED = "".join(map(chr, range(0x21)))
_DROPPED = str.maketrans("", "", "\t\r\n")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_NAMES_A_PLACE = re.compile(
    r"(?:https?:/*)?(?:[^\s/@]*@)?((?:[\w-]+\.)+[^\W\d_]{2,24})(?::\d+)?(?:[/?#]\S*)?", re.IGNORECASE
)


def read_html(html: str, defects: Defects) -> tuple[str, tuple[Link, ...]]:
    """The text that is shown, and the links in it."""
    if len(html) > LONGEST:
        defects[LONG_HTML] = None
        html = html[:LONGEST]
    reader = _Reader(html)
    reader.read()
    if len(reader.links) > _MOST_LINKS:
        defects[TOO_MANY_LINKS] = None
    text = shown("".join(reader.out))
    if "  " in text:
        text = _SPACES.sub(" ", text)
    text = "\n".join([line.strip(" ") for line in text.split("\n")])
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip(), tuple(reader.links[:_MOST_LINKS])


def shown(text: str) -> str:
    """``text`` without controls and without characters that nobody sees."""
    return text if text.replace("\n", " ").isprintable() else _UNSEEN.sub("", text)


class _Reader:
    def __init__(self, html: str) -> None:
        self.out: list[str] = []
        self.links: list[Link] = []
        self._html = html
        self._base = ""
        self._link: tuple[str, int] | None = None  # its target, and where in `out` its text begins

    def read(self) -> None:
        html, at, careful = self._html, 0, True
        while (tag := html.find("<", at)) >= 0:
            if tag > at:
                self._text(html[at:tag])
            found = _TAG.match(html, tag) if careful else None
            if found is not None:
                at = self._tag(found[1].lower(), found.end(1), found.end())
                continue
            name = _NAME.match(html, tag)
            if name is None:
                at = self._no_tag(tag)
                continue
            careful = False  # a quote without end, or a tag: from here on quotes protect nothing
            stop = html.find(">", name.end()) + 1 or len(html)
            at = self._tag(name[0][1:].lower(), name.end(), stop)
        self._text(html[at:])
        self._close_link()

    def _text(self, text: str) -> None:
        if "&" in text:
            text = unescape(text)
        if text:
            # No white space but single blanks is printable.
            plain = text.isprintable() and "  " not in text
            words = text.strip() if plain else " ".join(text.split())
            before, after = " " if text[0].isspace() else "", " " if words and text[-1].isspace() else ""
            self.out.append(f"{before}{words}{after}")

    def _no_tag(self, tag: int) -> int:
        """After a comment or a declaration; a sign alone is text."""
        html = self._html
        if html.startswith("<!--", tag):
            if html.startswith((">", "->"), tag + 4):
                return html.find(">", tag) + 1
            end = html.find("-->", tag + 4)
            return len(html) if end < 0 else end + 3
        if html.startswith(("<!", "<?", "</"), tag):
            return html.find(">", tag) + 1 or len(html)
        self.out.append("<")
        return tag + 1

    def _tag(self, name: str, start: int, stop: int) -> int:
        """Read a tag whose attributes stand between; where to go on."""
        if name in _BREAKS:
            self.out.append("\n")
        elif name in _CELLS:
            self.out.append(" ")
        elif name in ("a", "/a", "area", "form"):
            self._close_link()
            target = self._attribute("action" if name == "form" else "href", start, stop)
            if name[0] != "/" and target is not None:
                self._link = (target, len(self.out))
                if name != "a":
                    self._close_link()
        elif name == "base" and not self._base:
            self._base = self._attribute("href", start, stop) or ""
        elif name == "img":
            self.out.append(unescape(self._attribute("alt", start, stop) or ""))
        elif name in _ENDS:
            end = _ENDS[name].search(self._html, stop)
            if name == "textarea":
                self._text(self._html[stop : None if end is None else end.start()])
            return len(self._html) if end is None else end.start()
        return stop

    def _attribute(self, wanted: str, start: int, stop: int) -> str | None:
        for found in _ATTRIBUTE.finditer(self._html, start, stop):
            if found[1] is not None and found[1].lower() == wanted:
                return found[2] or found[3] or found[4] or ""
        return None

    def _close_link(self) -> None:
        if self._link is None:
            return
        written, begin = self._link
        self._link = None
        target = real_target(unescape(written), self._base)
        text = shown(" ".join("".join(self.out[begin:]).split()))[:1000]
        if len(self.links) <= _MOST_LINKS:
            self.links.append(Link(text=text, target=target, misleading=misleads(text, target)))


def real_target(written: str, base: str = "") -> str:
    """Where a browser goes: without the blanks and line ends that it leaves out, against the page's base."""
    target = written.strip(_STRIPPED).translate(_DROPPED)
    if target[:6].lower() in ("http:/", "https:") or target[:2] in ("\\\\", "/\\"):
        place, mark, rest = target.partition("?")
        target = place.replace("\\", "/") + mark + rest
    if base and not _SCHEME.match(target):
        with suppress(ValueError):
            target = urljoin(unescape(base).strip(_STRIPPED), target)
    return shown(target)


def misleads(text: str, target: str) -> bool:
    """Whether a link's text names a host, and its target is another one."""
    named = _NAMES_A_PLACE.fullmatch(text.strip().strip("<>().,"))
    if named is None:
        return False
    try:
        parts = urlsplit(target)
        host = (parts.hostname or "").lower().removeprefix("www.")
    except ValueError:
        return True
    if parts.scheme.lower() == "mailto":
        host = parts.path.rpartition("@")[2].lower()
    if not host:
        return bool(parts.scheme)
    said = named[1].lower().removeprefix("www.")
    return host != said and not host.endswith("." + said) and not said.endswith("." + host)
