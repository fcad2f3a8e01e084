"""Parts, charsets, encoded words and parameters, beside what the standard library makes of them."""

from __future__ import annotations

import email
from email.header import Header, decode_header, make_header
from email.message import EmailMessage
from encodings.aliases import aliases

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.mail.charsets import codec, lenient_base64, plain, to_text, words
from enricher.mail.mime import take_apart
from enricher.mail.parameters import split

INNER = b"--b\nContent-Type: multipart/mixed; boundary=c\n\n"


def parts(raw: bytes) -> list[tuple[str, bytes]]:
    return [(part.kind, part.data) for part in take_apart(raw).parts]


def leaves(raw: bytes) -> list[tuple[str, bytes]]:
    """The same of the standard library."""
    return [
        (part.get_content_type(), part.get_payload(decode=True))
        for part in email.message_from_bytes(raw).walk()
        if not part.is_multipart()
    ]


BODIES = (b"", b"words", b"a\nb\n", b"=C3=BC=\n=3D", b"d29yZHM=", b"\xff\x00", b"--c\n", b"--\n", b"\n\n")
ENCODINGS = ("", "7bit", "8bit", "base64", "quoted-printable", "BASE64")


@st.composite
def entities(draw: st.DrawFn, depth: int = 0) -> bytes:
    """Messages as programs write them, each boundary another."""
    lines = [b"X-A: gr\xc3\xbc\n b\n\tc"] * draw(st.integers(0, 1))
    if depth < 3 and draw(st.booleans()):
        boundary = draw(st.sampled_from(["b%d", "b %d", "=_%d", "%d--", "-%d"])) % depth
        written = draw(st.sampled_from(['boundary="%s"', 'x=y; BOUNDARY="%s"', 'boundary="%s"; charset=a']))
        kind = draw(st.sampled_from(["mixed", "alternative"]))
        lines.append(f"Content-Type: multipart/{kind};\n {written % boundary}".encode())
        separator = b"\n--" + boundary.encode()
        body = b"".join(
            separator + draw(st.sampled_from([b"", b" ", b"\t"])) + b"\n" + draw(entities(depth + 1))
            for _ in range(draw(st.integers(1, 3)))
        )
        body = draw(st.sampled_from([b"", b"preamble"])) + body + separator + b"--\nepilogue"
    else:
        encoding = draw(st.sampled_from(ENCODINGS))
        lines += [f"Content-Transfer-Encoding: {encoding}".encode()] if encoding else []
        lines.append(b"Content-Type: " + draw(st.sampled_from([b"text/plain", b'image/png; name="a;b"'])))
        body = draw(st.sampled_from(BODIES[4:5] if "64" in encoding else BODIES))
    return b"".join(line + b"\n" for line in lines) + b"\n" + body


@given(entities(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_parts_are_those_of_the_standard_library(raw: bytes, crlf: bool) -> None:
    raw = raw.replace(b"\n", b"\r\n") if crlf else raw
    assert parts(raw) == leaves(raw)


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
    assert parts(raw) == leaves(raw)
    assert take_apart(raw).defects == ()
    assert len(parts(raw)[-1][1]) == 400


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b"--b\n\n--bc\n--b--c\nx --b\n--b-- \n--b\n\nafter\n--b--", [b"--bc\n--b--c\nx --b"]),
        (b"--b\n\none\n--b\n--b\n\ntwo\n--b--", [b"one", b"two"]),
        (b"--b\n\nnever closed\n", [b"never closed\n"]),
        (INNER + b"--c\n\none\n--b\n\ntwo\n--b--", [b"one", b"two"]),
        (b"no boundary at all", [b"no boundary at all"]),
        (b"text\n--b--\n", [b"text\n--b--\n"]),
    ],
)
def test_a_line_separates_if_it_is_the_boundary_and_nothing_else(body: bytes, read: list[bytes]) -> None:
    raw = b"Content-Type: multipart/mixed; boundary=b\n\n" + body
    assert [data for _, data in parts(raw)] == read


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
    assert (codec("gb2312"), codec("ks_c_5601-1987")) == ("gb18030", "euc-kr")


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
