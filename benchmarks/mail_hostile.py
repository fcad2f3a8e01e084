"""How long mails that are written to hurt keep the event loop from its work.

    python -m benchmarks.mail_hostile [MEGABYTES [WORDS]]

Each mail (10 MB unless told; those alone whose names have WORDS in them) is read as the mail route reads it,
while a task of the loop notes when it runs. Printed are the longest stretch in which it did not, in time that
the process had of the CPU (the wall clock would tell how busy the machine is); of several runs the shortest
counts, and the bound is 50 ms. `ratio` is the time for the whole mail by that for one of half the size: 2.0
means that time grows as the size does, 1.0 that no more of it is read.
"""

from __future__ import annotations

import asyncio
import sys
import time
from base64 import b64encode
from collections.abc import Callable

from enricher.adapters.redis.stream.entry import whole
from enricher.mail.entries import identity_of, read_entry
from enricher.mail.message import parse_message
from enricher.mail.processor import read_mail

_HTML = b"Content-Type: text/html; charset=utf-8\n\n"
_TEXT = b"Content-Type: text/plain; charset=%s\n\n"
_CODED = b"Content-Transfer-Encoding: %s\n\n"
_MIXED = b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n"


def _repeated(before: bytes, piece: bytes) -> Callable[[int], bytes]:
    return lambda size: before + piece * (size // len(piece)) + b"\n\nhi"


HOSTILE: dict[str, Callable[[int], bytes]] = {
    **{
        f"{name}: {what}": _repeated(name.encode() + b": ", piece)
        for name in ("To", "Subject", "Content-Type", "Date", "References")
        for what, piece in {
            "quotes": b'"',
            "quotes and words": b'"a" b',
            "escapes": b"\\",
            "parentheses": b"(",
            "comments": b"(a)",
            "commas": b",",
            "colons": b":",
            "words and colons": b"a:",
            "semicolons": b";",
            "brackets": b"<",
            "closed brackets": b"<a> ",
            "addresses": b"a@b.example, ",
            "signs": b"@",
            "dots": b".",
            "blanks": b" ",
            "words": b"a ",
            "letters": b"a",
            "bad bytes": b"\xff",
            "encoded words": b"=?utf-8?q?=C3=BC?= ",
            "base64 words": b"=?iso-2022-jp?b?GyRCLTUbKEI=?= ",
            "beginnings of words": b"=?utf-8?q?",
            "parameters": b"; a=b",
            "sections": b"; a*1*=%ff",
            "folds": b"a\n ",
            "carriage returns": b"a\r",
        }.items()
    },
    **{
        f"HTML: {what}": _repeated(_HTML, piece)
        for what, piece in {
            "tags": b"<b>",
            "open tags": b"<b",
            "cells": b"<td>",
            "signs": b"<",
            "links": b"<a href=x>y",
            "quotes": b"<a href='",
            "comments": b"<!--",
            "scripts": b"<script>",
            "ends": b"</",
            "references": b"&amp;",
            "numbers": b"&#8238;",
            "blanks": b" ",
            "attributes": b"<a " + b"x " * 1000,
            "marks": "\u202e".encode(),
        }.items()
    },
    **{
        f"{charset}: {what}": _repeated(_TEXT % charset.encode(), piece)
        for charset in ("utf-8", "iso-2022-jp", "euc-jp", "shift_jis", "gb18030", "big5", "euc-kr")
        for what, piece in {
            "switches": b"\x1b$B!!\x1b(B",
            "lines in two bytes": b"\x1b$B!!!!!!\n",
            "bad bytes": b"\xff",
            "leads": b"\x81",
            "pairs": b"\xa4\xa2",
            "bad pairs": b"\xa4\xffa",
            "NULs": b"\0",
        }.items()
    },
    **{
        f"{charset}: bytes": _repeated(_TEXT % charset.encode(), b"\x1b$B+AP8-\x0e~{!!\xa4\xa2\xd8\0\xdc")
        for charset in ("utf-7", "utf-16", "utf-32", "hz", "iso-2022-kr", "gb18030", "euc-tw", "no-such")
    },
    "base64": lambda size: _CODED % b"base64" + b64encode(b"x" * (size * 3 // 4)),
    **{
        f"{encoding}: {what}": _repeated(_CODED % encoding.encode(), piece)
        for encoding in ("base64", "quoted-printable", "x-uuencode")
        for what, piece in {
            "junk": b"!!abc=d\n",
            "padding": b"QQ==",
            "signs": b"=",
            "codes": b"=FF",
            "soft breaks": b"= \n",
            "blanks": b" ",
            "lines": b"begin 644 a\n#86)C\n",
        }.items()
    },
    "header lines": _repeated(b"", b"X-A: b\n"),
    "odd header lines": _repeated(b"A: b\n", b"oops\n"),
    "long lines without a colon": _repeated(b"", b"a"),
    "fields ended by CR": _repeated(b"", b"A: b\r"),
    "carriage returns": _repeated(b"A: b\n", b"\r"),
    "blank lines": _repeated(b"", b"\r\n"),
    "hyphens": _repeated(_MIXED % (0, 0), b"\n--"),
    "false boundaries": _repeated(_MIXED % (0, 0), b"\n--b0x"),
    "boundaries": _repeated(_MIXED % (0, 0), b"\n--b0"),
    "parts": _repeated(_MIXED % (0, 0), b"\n\nx\n--b0"),
    "header in a part": _repeated(_MIXED % (0, 0), b"X: y\n"),
    "levels": lambda size: b"".join(_MIXED % (n, n) for n in range(size // 50)) + b"\nhi",
    "lines in levels": lambda size: (
        b"".join(_MIXED % (n, n) for n in range(50)) + b"\n" + b"\n--b3x" * (size // 6)
    ),
    "reports": _repeated(b"Content-Type: message/delivery-status\n\n", b"Final-Recipient: a\n\n"),
    "complaints": _repeated(b"Content-Type: message/feedback-report\n\n", b"A: b\n"),
    "calendar": _repeated(b"Content-Type: text/calendar\n\nBEGIN:VCALENDAR\n", b"BEGIN:VEVENT\nUID:1\n"),
    "results": _repeated(b"Authentication-Results: a", b"; spf=pass"),
    "a mail in UTF-16": lambda size: ("\ufeffSubject: a\n\n" + "b" * (size // 2)).encode("utf-16"),
    "text": _repeated(b"Subject: a\n\n", b"The sums are those of Tuesday.\n"),
}  # fmt: skip


_RUNS = 3
_BOUND = 0.05


async def longest_stretch(raw: bytes) -> float:
    """For how long the loop did nothing else while it read a mail: seconds of the CPU."""
    longest = 0.0
    done = False

    async def beat() -> None:
        nonlocal longest
        last = time.process_time()
        while not done:
            await asyncio.sleep(0.001)
            now = time.process_time()
            longest, last = max(longest, now - last), now

    body = whole({b"raw": raw})
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(beat())
        await asyncio.sleep(0.01)
        longest = 0.0
        identity_of(body)
        await asyncio.sleep(0.002)
        entry = read_entry(body)
        await asyncio.sleep(0.002)
        mail = await read_mail(entry)
        await asyncio.sleep(0.002)
        mail.document()
        await asyncio.sleep(0.002)
        done = True
    return longest


def seconds(raw: bytes) -> float:
    """What reading a mail costs: seconds of the CPU."""
    began = time.thread_time()
    parse_message(raw)
    return time.thread_time() - began


def main(size: int, words: str) -> None:
    for name, make in HOSTILE.items():
        if words not in name:
            continue
        raw = make(size)
        longest = 1e9
        for _ in range(_RUNS):
            longest = min(longest, asyncio.run(longest_stretch(raw)))
            if longest < _BOUND / 2:
                break
        half, full = seconds(make(size // 2)), seconds(raw)
        figures = f"{1000 * longest:6.1f} ms  {full:6.2f} s  ratio {full / half:4.1f}"
        print(f"{name:40} {figures}{'  TOO LONG' if longest > _BOUND else ''}", flush=True)


if __name__ == "__main__":
    main(int(1e6 * float(sys.argv[1] if len(sys.argv) > 1 else 10)), " ".join(sys.argv[2:]))
