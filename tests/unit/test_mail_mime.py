"""The quick reader of well-formed messages beside the standard library's parser."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enricher.mail.charsets import plain
from enricher.mail.mime import Apart, in_any_form, take_apart, well_formed

BOUNDARIES = ("b", "b-", "b--", "bb", "=_b", "b b", "B")
NAMED = 'image/png; name="a;b"'
TYPES = ("text/plain", "text/html; charset=utf-8", "Text/Plain", NAMED, "", "nonsense", "message/rfc822")
BASE64 = (b"d29yZHM=", b"d29y\nZHM=\n", b"d29y ZHM", b"d29yZHM", b"d29y=", b"d29y====")
BODIES = (b"", b"words", b"a\nb\n", b"=C3=BC=\n=3D", *BASE64, b"\xff\x00", b"--b\n", b"--bb")
WRITTEN = ('boundary="%s"', "boundary=%s", 'x=y; BOUNDARY="%s"', "charset=a; boundary=%s;")
ENCODINGS = ("", "7bit", "8bit", "base64", "quoted-printable", "BASE64", "x-uuencode", "base64 ")


def same(one: Apart, other: Apart) -> bool:
    """Alike but for how the first line of a folded header is written, which differs between interpreters."""

    def seen(apart: Apart) -> Any:
        parts = [
            (folded(p.headers), p.data, p.kind, p.contains, p.size, p.defects) for p in apart.parts
        ]
        return folded(apart.headers), parts, apart.defects

    def folded(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(name, plain(value)) for name, value in headers]

    return bool(seen(one) == seen(other))


@st.composite
def entities(draw: st.DrawFn, depth: int = 0) -> bytes:
    lines = []
    for _ in range(draw(st.integers(0, 2))):
        value = draw(st.sampled_from(["x", "", "a\n b", "\n c", "gr\u00fc\u00df", "a:b ", " ", "\x0b\x0c"]))
        lines.append(f"X-{draw(st.sampled_from('ab'))}: {value}".encode())
    encoding = draw(st.sampled_from(ENCODINGS))
    if encoding:
        lines.append(b"Content-Transfer-Encoding: " + encoding.encode())
    if depth < 3 and draw(st.booleans()):
        boundary = draw(st.sampled_from(BOUNDARIES))
        written = draw(st.sampled_from(WRITTEN))
        kind = draw(st.sampled_from(["mixed", "alternative", "digest"]))
        lines.append(f"Content-Type: multipart/{kind};\n {written % boundary}".encode())
        separator = b"--" + boundary.encode()
        body = draw(st.sampled_from([b"", b"preamble\n", b"\n"]))
        for _ in range(draw(st.integers(0, 3))):
            after = draw(st.sampled_from([b"", b" ", b"\t", b"x"]))
            body += separator + after + b"\n" + draw(entities(depth + 1)) + b"\n"
        body += separator + draw(st.sampled_from([b"--", b"--\n", b"--  \nepilogue", b"", b"--x\n"]))
    else:
        kind = draw(st.sampled_from(TYPES))
        if kind:
            lines.append(b"Content-Type: " + kind.encode())
        body = draw(st.sampled_from(BODIES))
    return b"".join(line + b"\n" for line in lines) + b"\n" + body


@given(entities(), st.booleans(), st.data())
@settings(max_examples=400, deadline=None)
def test_what_the_quick_reader_understands_it_reads_as_the_standard_library(
    raw: bytes, crlf: bool, data: st.DataObject
) -> None:
    if crlf:
        raw = raw.replace(b"\n", b"\r\n")
    found = well_formed(raw)
    assert found is None or same(found, in_any_form(raw))
    # The same with a byte too few, or another one.
    at = data.draw(st.integers(0, len(raw)))
    other = data.draw(st.sampled_from([b"", b"\n", b"\r", b" ", b"-", b'"', b"\x00"]))
    broken = raw[:at] + other + raw[at + 1 :]
    found = well_formed(broken)
    assert found is None or same(found, in_any_form(broken))


@given(st.binary(max_size=200))
@example(b"\n")
@example(b"\r\n\r\n")
@example(b"A: b\n \n\nx")
@example(b"A:\n\n")
@example(b"From ann\nA: b\n\nx")
@example(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--")
@example(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\nx\n--b--")
@example(b"Content-Type: multipart/mixed; boundary=b\n\n--b--\n")
@example(b'Content-Type: multipart/mixed; name="a; boundary=b"\n\nshown\n--b\n\nhidden\n--b--\n')
def test_any_bytes_are_read_as_the_standard_library_reads_them(raw: bytes) -> None:
    found = well_formed(raw)
    assert found is None or same(found, in_any_form(raw))


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_what_mail_programs_write_needs_no_second_reader(newline: bytes) -> None:
    mail = EmailMessage()
    mail["Subject"] = "für alle " * 20
    mail["To"] = ", ".join(f"person{n}@example.com" for n in range(20))
    mail.set_content("grün\n" * 10)
    mail.add_alternative("<p>grün</p>", subtype="html", cte="base64")
    mail.get_payload(1).add_related(b"\x89PNG", "image", "png", cid="<logo>")
    mail.add_attachment(b"data" * 100, maintype="application", subtype="pdf", filename="größe.pdf")
    raw = mail.as_bytes().replace(b"\n", newline)
    found = well_formed(raw)
    assert found is not None
    assert same(found, in_any_form(raw))
    assert [len(part.data) for part in found.parts][-1] == 400


def test_a_line_that_only_begins_like_a_boundary_separates_nothing() -> None:
    top = b"Content-Type: multipart/mixed; boundary=b\n\n"
    found = well_formed(top + b"--b\n\n--bc\n--b--c\nx --b\n--b-- \n--b\n\nafter\n--b--")
    assert found is not None
    assert [part.data for part in found.parts] == [b"--bc\n--b--c\nx --b"]


def test_what_is_odd_is_left_to_the_standard_library() -> None:
    odd = (
        b"no header at all",
        b"A: b\rC: d\n\n",
        b"Content-Type: multipart/mixed\n\nx",
        b"Content-Type: message/rfc822\n\nA: b\n\n",
        b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nnever closed",
        b"Content-Transfer-Encoding: base64\n\nd29y!ZHM=",
        b'Content-Type: multipart/mixed; boundary="\xff"\n\n--\xff\n\nx\n--\xff--',
    )
    for raw in odd:
        assert well_formed(raw) is None
        assert same(take_apart(raw), in_any_form(raw))
