"""Bytes of mails become text, whatever they claim to be."""

from __future__ import annotations

from email.header import Header, decode_header, make_header
from encodings.aliases import aliases

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.mail.charsets import codec, lenient_base64, plain, to_text, words


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
