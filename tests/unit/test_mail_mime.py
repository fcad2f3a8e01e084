"""Headers, charsets and the quick reader of well-formed messages beside the standard library's parser."""

from __future__ import annotations

from email.header import Header, decode_header, make_header
from email.message import EmailMessage
from encodings.aliases import aliases
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enricher.mail.charsets import codec, lenient_base64, plain, to_text, words
from enricher.mail.mime import Apart, in_any_form, take_apart, well_formed
from enricher.mail.parameters import split

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


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("=?iso-8859-1?q?Gr=FC=DFe?= an alle", "Grüße an alle"),
        ("=?utf-8?b?R3LDvMOfZQ?=", "Grüße"),
        ("=?UTF-8*de?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?utf-8?q?a_b?= \t =?utf-8?q?c?=", "a bc"),
        ("=?utf-8?b?w7w=?= =?iso-8859-1?q?=FC?=", "üü"),
        ("Re:=?utf-8?q?x?=!", "Re:x!"),
        ("=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        ("=?utf-8?b?a?=", "=?utf-8?b?a?="),
        ("=?no-such-charset?q?=C3=BC?=", "ü"),
        ("no words", "no words"),
    ],
)
def test_encoded_words_are_decoded_and_what_is_none_stays(value: str, read: str) -> None:
    assert words(value) == read


def test_a_character_cut_in_two_words_is_put_together() -> None:
    assert words("=?utf-8?b?4p4=?= =?utf-8?b?nA==?=") == "➜"
    assert words("=?utf-8?q?=E2=9E?=\r\n =?utf-8?q?=9C?=".replace("\r\n", "")) == "➜"


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_words_are_read_as_the_standard_library_reads_them(text: str) -> None:
    written = Header(text, "utf-8").encode(linesep="")
    assert words(plain(written)) == str(make_header(decode_header(written)))


def test_codecs_that_are_for_programs_or_slow_by_design_are_no_charsets() -> None:
    for name in ("zlib", "rot13", "base64", "idna", "punycode", "unicode_escape", "undefined", "", "x\0y"):
        assert codec(name) is None, name
    assert codec("raw_unicode_escape") is None
    assert codec(" 'UTF-8' ") == codec("utf8") == "utf-8"
    assert (codec("gb2312"), codec("ks_c_5601-1987")) == ("gb18030", "cp949")


def test_half_a_surrogate_pair_never_comes_out_of_any_codec() -> None:
    for name in {*aliases, *aliases.values(), "raw_unicode_escape", "unicode_escape"}:
        for data in (b"a+2AA-b", rb"\ud83d", b"\xed\xa0\xbd", b"\xd8\x3d", b"\x3d\xd8", bytes(range(256))):
            assert to_text(data, name)[0].encode("utf-8")


def test_text_that_was_cut_off_is_still_read_in_its_charset() -> None:
    assert to_text("日本".encode("shift_jis")[:-1], "shift_jis") == ("日\ufffd", False)


def test_a_folded_header_is_one_line_and_bad_bytes_are_read() -> None:
    assert plain("a\r\n b\n\tc ") == "a b\tc"
    assert plain("caf\udce9") == "café"


def test_base64_without_padding_and_with_foreign_characters_is_read() -> None:
    assert lenient_base64(b"R3L\nDvA") == b"Gr\xc3\xbc"
    assert lenient_base64(b"R") is None


def test_hostile_headers_are_read_in_time_that_grows_with_their_length() -> None:
    # Whoever is quadratic in these never comes back.
    for piece in ("=?a?q?", "=?", "<", "(", '"', " ;a", "=?utf-8?q?a?= "):
        assert words(plain(piece * 20_000)) is not None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Text/HTML", ("text/html", {})),
        ("text/plain; CHARSET=utf-8", ("text/plain", {"charset": "utf-8"})),
        ('attachment; filename="a;b \\"c\\".txt"', ("attachment", {"filename": 'a;b "c".txt'})),
        ("a; filename = plain name.txt ; size=3", ("a", {"filename": "plain name.txt", "size": "3"})),
        ("a; filename*=utf-8''gr%C3%BCn.pdf", ("a", {"filename": "grün.pdf"})),
        ("a; filename*=iso-8859-1'de'gr%FCn.pdf", ("a", {"filename": "grün.pdf"})),
        ("a; filename=x.pdf; filename*=utf-8''y.pdf", ("a", {"filename": "y.pdf"})),
        ("a; filename*1=b.pdf; filename*0=a", ("a", {"filename": "ab.pdf"})),
        ("a; filename*0*=utf-8''%C3; filename*1*=%BC; filename*2=.txt", ("a", {"filename": "ü.txt"})),
        ('a; filename="=?utf-8?q?gr=C3=BCn?="', ("a", {"filename": "grün"})),
        ('a; filename="unended', ("a", {"filename": "unended"})),
        ("a; name=one; name=two", ("a", {"name": "one"})),
        ("a; nonsense; =x; ok=1", ("a", {"ok": "1"})),
        ("", ("", {})),
    ],
)
def test_a_header_is_split(value: str, expected: tuple[str, dict[str, str]]) -> None:
    assert split(value) == expected
