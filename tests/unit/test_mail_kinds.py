"""Kinds of mail that senders write and that are easily misread: an example of each, and its neighbours."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from webencodings.labels import LABELS

from benchmarks.mail_charsets import SEVERAL, digest, names, ours
from enricher.mail.addresses import mailboxes
from enricher.mail.charsets import codec, to_text, words
from enricher.mail.dates import read_date
from enricher.mail.message import parse_message
from enricher.mail.models import Mail
from enricher.mail.parameters import split
from enricher.mail.threads import ids
from enricher.mail.transfer import decoded

FROM = "From: Ann <ann@a.example>\r\n"
MIXED = "Content-Type: multipart/mixed; boundary=b\r\n"
BODY = "\r\n--b\r\n\r\nbody\r\n--b--\r\n"


def read(text: str | bytes) -> Mail:
    return parse_message(text.encode() if isinstance(text, str) else text)


# -- headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "defect"),
    [
        (f"{FROM}oops no colon here\r\nSubject: hi\r\n{MIXED}", "InvalidHeaderDefect"),
        (f"{FROM}Subject: hi\r\n{MIXED}oops at the end\r\n", "InvalidHeaderDefect"),
        (f"oops at first\r\n{FROM}Subject: hi\r\n{MIXED}", "InvalidHeaderDefect"),
        (f"{FROM}one\r\ntwo\r\n: three\r\nSubject: hi\r\n{MIXED}", "InvalidHeaderDefect"),
        (f"{FROM}--x\r\nSubject: hi\r\n{MIXED}", "InvalidHeaderDefect"),
        (f"{FROM}Sub\0ject: no\r\nSubject: hi\r\n{MIXED}", "InvalidHeaderDefect"),
        (f"{FROM}Grüße: an alle\r\nSubject: hi\r\n{MIXED}", "InvalidHeaderDefect"),
        (f"{FROM}Subject : hi\r\n{MIXED}", "ObsoleteHeaderDefect"),
        (f"{FROM}Subject\t \t: hi\r\n{MIXED}", "ObsoleteHeaderDefect"),
        (f"\ufeff{FROM}Subject: hi\r\n{MIXED}", "ByteOrderMarkDefect"),
        (f"\r\n \r\n{FROM}Subject: hi\r\n{MIXED}", "LeadingBlankLinesDefect"),
        (f" Subject: hi\r\n{FROM}{MIXED}", "FirstHeaderLineIsContinuationDefect"),
        (f"From ann Thu Jan  1 10:00:00 2026\r\n{FROM}Subject: hi\r\n{MIXED}", None),
        (f">From ann Thu Jan  1 10:00:00 2026\r\n{FROM}Subject: hi\r\n{MIXED}", None),
        (f"{FROM}From ann Thu Jan  1\r\nSubject: hi\r\n{MIXED}", "MisplacedEnvelopeHeaderDefect"),
        (f"{FROM}Subject: hi\r\n \r\n{MIXED}", None),
        (f"{FROM}Subject:hi\r\n{MIXED}", None),
        (f"{FROM}Subject:\r\n hi\r\n{MIXED}", None),
        (f"{FROM}SUBJECT: hi\rX-A: b\r\n{MIXED}", "InvalidLineEndsDefect"),
        (f"HTTP/1.1 200 OK\r\n{FROM}Subject: hi\r\n{MIXED}", "InvalidHeaderDefect"),
        (f"{FROM}This is: no field\r\nSubject: hi\r\n{MIXED}", "InvalidHeaderDefect"),
        (f"{FROM}Subject: hi\r\noops\r\ntwice\r\nReturn-Path: <a@b>\r\n{MIXED}", "InvalidHeaderDefect"),
        (f"{FROM}\ufeffSubject: hi\r\n{MIXED}", "InvalidHeaderDefect"),
        (f"\u200b{FROM}Subject\xa0: hi\r\n{MIXED}", "InvalidHeaderDefect"),
    ],
)
def test_a_header_is_read_on_whatever_stands_between_its_fields(head: str, defect: str | None) -> None:
    mail = read(head + BODY)
    assert (mail.subject, mail.text) == ("hi", "body")
    assert [one.address for one in mail.from_] == ["ann@a.example"]
    assert mail.defects == ((defect,) if defect else ())


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\r\n", "\r\r\r\n"])
def test_lines_end_as_they_like(ending: str) -> None:
    mail = read((f"{FROM}Subject: hi\r\n{MIXED}" + BODY).replace("\r\n", ending))
    assert (mail.subject, mail.text) == ("hi", "body")
    assert mail.defects == (() if ending == "\n" else ("InvalidLineEndsDefect",))


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_mail_in_utf_16_is_read(charset: str) -> None:
    mail = read(f"{FROM}Subject: grün\r\n\r\nbody".encode(charset))
    assert (mail.subject, mail.text, mail.defects) == ("grün", "body", ("ByteOrderMarkDefect",))


def test_a_line_that_is_no_header_is_kept() -> None:
    assert ("", "oops") in read(f"{FROM}oops\r\n{MIXED}" + BODY).headers


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("Subject: hi\r\nHello Bob,\r\nhow are you?\r\n\r\nAnn", "Hello Bob,\r\nhow are you?\r\n\r\nAnn"),
        ("Subject: hi\r\nHello Bob", "Hello Bob"),
        ("Subject: hi\r\nHello Bob\r\n\r\n", "Hello Bob\r\n\r\n"),
        ("only text\r\n\r\nmore", "only text\r\n\r\nmore"),
    ],
)
def test_a_text_without_a_blank_line_before_it_is_the_body(raw: str, text: str) -> None:
    mail = read(raw)
    assert mail.text == text
    assert mail.defects == ("MissingHeaderBodySeparatorDefect",)


def test_a_part_is_read_like_a_message() -> None:
    part = "Content-Type : application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD"
    (found,) = read(f"{MIXED}\r\n--b\r\noops\r\n{part}\r\n--b--").attachments
    assert (found.filename, found.size) == ("a.pdf", 3)


@pytest.mark.parametrize(
    "written",
    [
        'boundary="simple\r\n boundary"',
        'boundary="simple\r\n\tboundary"',
        'boundary=\r\n "simple boundary"',
        'boundary="simple boundary" ; charset=x',
        'boundary="simple boundary"; x="a\r\n b"',
        'x="boundary=no"; Boundary = "simple boundary"',
        '(a comment) boundary="simple boundary"',
        "boundary*0=\"simple \"; boundary*1=\"boundary\"",
        "boundary*=us-ascii'en'simple%20boundary",
    ],
)
def test_a_boundary_is_found_however_it_is_written(written: str) -> None:
    part = "Content-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD"
    lines = f"--simple boundary\r\n\r\npart\r\n--simple boundary \r\n{part}\r\n--simple boundary--"
    mail = read(f"Content-Type: multipart/mixed; {written}\r\n\r\n{lines}")
    assert mail.text == "part"
    assert [(one.filename, one.size) for one in mail.attachments] == [("a.pdf", 3)]


# -- people --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "people"),
    [
        ("boss@bank.example <x@evil.example>", [("boss@bank.example", "x@evil.example")]),
        ("The boss@bank.example Team <x@evil.example>", [("The boss@bank.example Team", "x@evil.example")]),
        ('"boss@bank.example" <x@evil.example>', [("boss@bank.example", "x@evil.example")]),
        ("Boss <boss@bank.example> <x@evil.example>", [("Boss <boss@bank.example>", "x@evil.example")]),
        ("x@evil.example (boss@bank.example)", [("boss@bank.example", "x@evil.example")]),
        ("=?utf-8?q?boss=40bank.example?= <x@evil.example>", [("boss@bank.example", "x@evil.example")]),
        ("<boss@bank.example<x@evil.example>", [("<boss@bank.example", "x@evil.example")]),
        ("<boss@bank.example <x@evil.example>", [("<boss@bank.example", "x@evil.example")]),
        ('"boss@bank.example <x@evil.example>', [('"boss@bank.example', "x@evil.example")]),
        ("boss@bank.example: <x@evil.example>", [("boss@bank.example:", "x@evil.example")]),
        ("boss(x)@bank.example <x@evil.example>", [("boss@bank.example", "x@evil.example")]),
        ("=?utf-8?q?Boss=0D=0AFrom:_x?= <x@evil.example>", [("Boss From: x", "x@evil.example")]),
        ("Boss <=?utf-8?q?boss=40bank.example?=>", [("Boss boss@bank.example", "")]),
        ("Boss <=?utf-8?q?x?=@evil.example>", [("Boss x@evil.example", "")]),
        ("=?utf-8?q?x?=@evil.example", [("x@evil.example", "")]),
        ("Doe, John <j@d.example>, Roe, J <r@d.ex>", [("Doe, John", "j@d.example"), ("Roe, J", "r@d.ex")]),
        ("Doe, j@d.example, root", [("Doe", ""), ("", "j@d.example"), ("root", "")]),
        ("a@a .example", [("", "a@a.example")]),
        ("=?utf-8?q?a=40a.example=2C?= <x@evil.example>", [("a@a.example,", "x@evil.example")]),
        ("=?utf-8?q?Doe, John?= <j@d.example>", [("Doe, John", "j@d.example")]),
        ("a@a.example b@b.example", [("", "a@a.example"), ("", "b@b.example")]),
        ("<a@a.example> <b@b.example>", [("", "a@a.example"), ("", "b@b.example")]),
        ("A <a@a.example> B <b@b.example>", [("A", "a@a.example"), ("B", "b@b.example")]),
        ("Big Bug bb@bug.example", [("Big Bug", "bb@bug.example")]),
        ("a@a.example; b@b.example", [("", "a@a.example"), ("", "b@b.example")]),
        ("<foo bar@x.example>", [("foo bar@x.example", "")]),
        ("@b.example", [("@b.example", "")]),
        ("Ann <@b.example>", [("Ann @b.example", "")]),
        ("Ann <a@>", [("Ann a@", "")]),
        ("Ann <a@b@c.example>", [("Ann a@b@c.example", "")]),
        ("undisclosed recipients", [("undisclosed recipients", "")]),
        ("Ann <mailto:a@a.example>", [("Ann", "a@a.example")]),
        ("mailto:a@a.example", [("", "a@a.example")]),
        ("Ann <<a@a.example>>", [("Ann", "a@a.example")]),
        ("Ann <a@a.example", [("Ann", "a@a.example")]),
        ("Ann <a@a.example, Bo <b@b.example>", [("Ann", "a@a.example"), ("Bo", "b@b.example")]),
        ("Ann a@a.example>", [("Ann", "a@a.example")]),
        ("<a@a.example> Ann", [("Ann", "a@a.example")]),
        ("Ann < a @ a . example >", [("Ann", "a@a.example")]),
        ("a @ a.example", [("", "a@a.example")]),
        ("Ann <@x.example,@y.example:a@a.example>", [("Ann", "a@a.example")]),
        ("Ann (the (best)) <a@a.example>", [("Ann", "a@a.example")]),
        ("Ann :) <a@a.example>", [("Ann :)", "a@a.example")]),
        ('O"B <o@b.example>, "Doe, J" <j@d.example>', [('O"B', "o@b.example"), ("Doe, J", "j@d.example")]),
        ('"Ann <a@a.example>, "Bo" <b@b.example>', [('"Ann', "a@a.example"), ("Bo", "b@b.example")]),
        ('"john doe"@d.example', [("", '"john doe"@d.example')]),
        ("Ann <a@[192.0.2.1]>, b@[IPv6:::1]", [("Ann", "a@[192.0.2.1]"), ("", "b@[IPv6:::1]")]),
        ("Meeting 10:30 <m@m.example>", [("Meeting 10:30", "m@m.example")]),
        ("Team: a@a.example, Bo <b@b.example>;", [("", "a@a.example"), ("Bo", "b@b.example")]),
        ("a@a.example,,; ,b@b.example,", [("", "a@a.example"), ("", "b@b.example")]),
        ("((((, <<<<, a@a.example", [("((((", ""), ("", "a@a.example")]),
        ("jörg@müller.example", [("", "jörg@müller.example")]),
        ("", []),
        ("<>", [("", "")]),
    ],
)  # fmt: skip
def test_one_person_is_one_person(value: str, people: list[tuple[str, str]]) -> None:
    assert [(one.name, one.address) for one in mailboxes(value)] == people
    for _, address in people:
        assert not address or address.partition("@")[0]


def test_what_is_no_address_is_a_name_and_a_defect() -> None:
    mail = read("From: Ann <@b.example>\r\n\r\n")
    assert (mail.from_[0].name, mail.defects) == ("Ann @b.example", ("InvalidAddressDefect",))


def test_of_an_endless_list_ten_thousand_are_kept() -> None:
    mail = read("To: " + ", ".join(f"a{n}@a.example" for n in range(12_000)) + "\r\nCc: c@c.example\r\n\r\n")
    assert (len(mail.to), len(mail.cc), mail.defects) == (10_000, 1, ("TooManyAddressesDefect",))


# -- charsets ------------------------------------------------------------------------------------------

GOOD = "Grüße aus Köln, 5 € für alle"
RUSSIAN = "Привет мир"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (GOOD.encode() + b"\xff", GOOD + "\ufffd"),
        (GOOD.encode()[:-4] + b"\xe4lle", GOOD[:-4] + "\ufffdlle"),
        (RUSSIAN.encode()[:-1], RUSSIAN[:-1] + "\ufffd"),
        (b"\xff" + RUSSIAN.encode(), "\ufffd" + RUSSIAN),
        ("日本語".encode()[:-1], "日本\ufffd"),
        ("日本語".encode()[:-2], "日本\ufffd"),
        (b"plain \xff text", "plain \ufffd text"),
        (b"cut afte\xc3", "cut afte\ufffd"),
        (b"5 \xe2\x82", "5 \ufffd"),
        (b"Gr\xc3\xbc\xc3\x9fe > Gr\xfc\xdfe, \xe4lter", "Grüße > Gr\ufffd\ufffde, \ufffdlter"),
        (b"smile \xed\xa0\xbd\xed\xb8\x80 f\xc3\xbcr alle", "smile " + 6 * "\ufffd" + " für alle"),
        (b"na\xefve \x93x\x94", "naïve “x”"),
        (b"caf\xe9", "café"),
        (b"Stra\xdfe 5 \x80", "Straße 5 €"),
    ],
)
def test_one_bad_byte_is_one_replacement(data: bytes, text: str) -> None:
    assert to_text(data, "utf-8") == (text, False)
    mail = read(b"Subject: " + data + b"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + data)
    assert (mail.subject, mail.text, mail.defects) == (text, text, ("UndecodableBytesDefect",))
    coded = "".join(f"={byte:02X}" for byte in data)
    assert read(f"Subject: =?utf-8?q?{coded}?=\r\n\r\n").subject == text
    percent = "".join(f"%{byte:02X}" for byte in data)
    mail = read(f"Content-Type: application/pdf; name*=utf-8''{percent}.pdf\r\n\r\nx")
    assert mail.attachments[0].filename == text + ".pdf"
    assert mail.defects == ("UndecodableBytesDefect",)


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        (b"\x1b$B-5-c\x1b(B 2026", "iso-2022-jp", "\u2160㏍ 2026"),
        (b"\x1b$B-!\x1b(B abc \x1b$B$3$s\x1b(B", "iso-2022-jp", "① abc こん"),
        (b"\x1b(I1\x1b(B \x1b(J\\~\x1b(B", "iso-2022-jp", "ｱ ¥‾"),
        (b"\x1b$B$3$s\r\nabc", "ISO-2022-JP-MS", "こん\r\nabc"),
        (b"\x0e1\x0fa", "iso-2022-jp", "ｱa"),
        (b"\x1b$(D0!\x1b(B", "iso-2022-jp-1", "丂"),
        ("안녕".encode("iso2022_kr"), "iso-2022-kr", "안녕"),
        (b"\x1b$)A\x0eVPND\x0f!", "iso-2022-cn", "中文!"),
        (b"\xad\xb5 \x8e\xb1 \xa4\xb3", "euc-jp", "\u2160 ｱ こ"),
        (b"\x8f\xb0\xa1", "x-euc-jp", "丂"),
        (b"\x87\x54\xb1", "shift_jis", "\u2160ｱ"),
        (b"\x87\x54", "x-sjis", "\u2160"),
        (b"\x1b$B-5\x1b(B", "csISO2022JP", "\u2160"),
        (b"\x1b$B-5\x1b(B", "cp50220", "\u2160"),
        (b"5 \x800", "gbk", "5 €0"),
        (b"\x80 \xa2\xe3", "gb2312", "€ €"),
        ("你好".encode("gb18030"), "x-gbk", "你好"),
        (b"~{VPND~} a", "hz-gb-2312", "中文 a"),
        (b"\xa4\xa4 \xa3\xe1 \x87\x40", "big5", "中 € 䏰"),
        ("똠".encode("cp949"), "ks_c_5601-1987", "똠"),
        ("Привет".encode("mac_cyrillic"), "x-mac-cyrillic", "Привет"),
        ("Привет".encode("mac_cyrillic"), "x-mac-ukrainian", "Привет"),
        ("Привет".encode("cp866"), "csIBM866", "Привет"),
        ("Привет".encode("cp1251"), "x-cp1251", "Привет"),
        ("Привет".encode("cp1251"), "win-1251", "Привет"),
        ("Привет".encode("koi8-r"), "koi", "Привет"),
        ("สวัสดี".encode("cp874"), "tis-620", "สวัสดี"),
        ("สวัสดี".encode("cp874"), "iso8859-11", "สวัสดี"),
        (b"\x93hi\x94 \x80", "iso-8859-1", "“hi” €"),
        (b"\x93hi\x94 \x80", "Latin1", "“hi” €"),
        (b"\x93hi\x94 \x80", "cp-1252", "“hi” €"),
        (b"\x81\x8d", "windows-1252", "\x81\x8d"),
        (b"\xd0\xdd\xfd", "iso-8859-9", "Ğİı"),
        (b"\x80", "x-user-defined", "\uf780"),
        (b"gr+APw-n", "utf-7", "grün"),
        (b"\xef\xbb\xbfgr\xc3\xbcn", "iso-8859-1", "grün"),
        ("grün".encode("utf-16"), "utf-8", "grün"),
    ],
)
def test_charsets_mean_what_the_encoding_standard_says_and_senders_mean(
    data: bytes, charset: str, text: str
) -> None:
    assert to_text(data, charset) == (text, True)


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        (b"\x1b$B$3$", "iso-2022-jp", "こ\ufffd"),
        (b"\x1b$B\x7f!\x1b(Ba", "iso-2022-jp", "\ufffd\ufffda"),
        ("日本".encode("euc-jp")[:-1], "euc-jp", "日\ufffd"),
        ("日本".encode("shift_jis")[:-1], "shift_jis", "日\ufffd"),
        ("日本".encode("shift_jis") + b"\xff!", "shift_jis", "日本\ufffd!"),
        ("你好".encode("gbk")[:-1], "gbk", "你\ufffd"),
        ("你好".encode("big5")[:-1], "big5", "你\ufffd"),
        ("안녕".encode("euc-kr")[:-1], "euc-kr", "안\ufffd"),
        ("日本".encode(), "iso-2022-jp", "日本"),
        ("日本".encode("shift_jis"), "iso-2022-jp", "日本"),
        ("안녕".encode("iso2022_kr")[:-2], "iso-2022-kr", "안\ufffd"),
        (b"plain", "utf-16", "plain"),
        ("grün".encode(), "us-ascii", "grün"),
        ("grün".encode(), "unknown-8bit", "grün"),
        (b"gr\xfcn", "no-such", "grün"),
        (b"gr\xfcn", "us-ascii", "grün"),
        (b"a\xd2", "windows-1253", "a\ufffd"),
    ],
)
def test_a_charset_that_cannot_be_right_is_said_so(data: bytes, charset: str, text: str) -> None:
    assert to_text(data, charset) == (text, False)


def test_charsets_are_byte_by_byte_those_of_the_standard() -> None:
    # As `python -m benchmarks.mail_charsets` prints them: it says where one differs.
    assert {name: digest(ours(name)) for name in SEVERAL} == {
        "big5": "8dc5d95853412c9d",
        "euc-jp": "07241f17caed923f",
        "euc-kr": "4b8123d5e6f9a311",
        "gb18030": "b4adb40d1bcd908f",
        "gbk": "1033424eba4b09c9",
        "iso-2022-jp": "87368ffe66d36144",
        "shift_jis": "76c6e7601055eaba",
        "utf-8": "d95007513533f832",
    }
    others = [text for name in names() if name not in SEVERAL for text in ours(name)]
    assert digest(others) == "7188dfd433219964"


def test_utf_8_with_a_bad_byte_is_that_whatever_is_declared() -> None:
    text = "中文很好的邮件内容"
    for charset in ("utf-8", "gbk"):
        assert to_text(text.encode(charset) + b"\xff", "gb2312") == (text + "\ufffd", False)


@pytest.mark.parametrize("charset", ["gbk", "koi8-r", "iso-2022-jp"])
def test_raw_bytes_of_a_header_are_in_the_charset_of_the_text(charset: str) -> None:
    text = {"gbk": "中文邮件", "koi8-r": "Привет", "iso-2022-jp": "日本"}[charset]
    head = f"Content-Type: text/plain; charset={charset}\r\nSubject: ".encode()
    mail = read(head + text.encode(charset) + b"\r\n\r\n" + text.encode(charset))
    assert (mail.subject, mail.text) == (text, text)


def test_a_page_may_name_its_charset_itself() -> None:
    page = b"<meta http-equiv=x content='text/html; charset=windows-1251'>" + "Привет".encode("cp1251")
    mail = read(b"Content-Type: text/html\r\n\r\n" + page)
    assert (mail.html_text, mail.defects) == ("Привет", ())


def test_every_label_of_the_standard_is_known() -> None:
    for label, name in LABELS.items():
        # What the standard refuses for the sake of pages is read in mails.
        assert codec(label) == codec(name) is not None or name == "replacement", label
    refused = [label for label, name in LABELS.items() if name == "replacement"]
    assert {codec(label) for label in refused} == {"iso-2022", "hz", None}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("=?iso-2022-jp?B?GyRCLTUtYxsoQiAyMDI2?=", "\u2160㏍ 2026"),
        ("=?iso-8859-1?q?=93hi=94_=80?=", "“hi” €"),
        ("=?utf-8?q?=D0=9F=D1?=", "П\ufffd"),
        ("=?utf-8?b?0J/R?=", "П\ufffd"),
        ("=?utf-8?b?0J/RgA=?=", "Пр"),
        ("=?utf-8?b?R3LDvA?= x", "Grü x"),
        ("=?utf-8?q?no end =?utf-8?q?=C3=BC?=", "=?utf-8?q?no end ü"),
        ("=?a?=?utf-8?q?=C3=BC?=", "=?a?ü"),
    ],
)
def test_encoded_words_that_are_cut_or_careless_are_read(value: str, read: str) -> None:
    assert words(value) == read


# -- dates ---------------------------------------------------------------------------------------------

FOUR = datetime(1995, 9, 20, 4, 19, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "Wed, 20 Sep 1995 00:19:00 (EDT) -0400",
        "Wed, 20 Sep 1995 00:19:00 -0400",
        "Wed, 20 Sep 1995 00:19:00 -0400 (EDT)",
        "Wed, 20 Sep 1995 00:19:00 EDT",
        "Wed, 20 Sep 1995 00:19 EDT",
        "Wed, 20 Sep 1995 00:19:00 (EDT)",
        "Wed, 20 Sep 1995 06:19:00 +02:00",
        "Wed, 20 Sep 1995 06:19:00 +2",
        "Wed, 20 Sep 1995 06:19:00 GMT+0200",
        "Wed, 20 Sep 1995 06:19:00 GMT+02:00",
        "Wed, 20 Sep 1995 06:19:00 UTC+2",
        "Wed, 20 Sep 1995 06:19:00 CEST",
        "Wed, 20 Sep 1995 05:19:00 CET",
        "Wed, 20 Sep 1995 13:19:00 JST",
        "Wed, 20 Sep 1995 04:19:00 GMT",
        "Wed, 20 Sep 1995 04:19:00 Z",
        "Wed, 20 Sep 1995 04:19:00",
        "Wed, 20 Sep 1995 04:18:60 +0000",
        "Wed, 20 Sep 95 04:19:00 +0000",
        "Wed, 20 Sep 095 04:19:00 +0000",
        "Wednesday, 20-Sep-95 04:19:00 GMT",
        "Wed (a day), 20 (twenty) Sep 1995 04:19:00 +0000",
        "20 September 1995 04:19:00 +0000",
        "Sep 20, 1995 4:19 AM",
        "Wed Sep 20 04:19:00 1995",
        "Wed Sep 20 06:19:00 CEST 1995",
        "Wed Sep 20 06:19:00 1995 +0200",
        "Wed,20 Sep 1995 06:19:00+0200",
        "1995-09-20T04:19:00Z",
        "1995-09-20T06:19:00.000+02:00",
        "1995-09-20 06:19:00 +0200",
        "19950920T041900Z",
        "1995/09/20 04:19:00",
        "20.09.1995 04:19:00",
        "Wed, 20 Sep 1995 4:19:0 +0000",
        "Wed, 20 Sep 1995 04.19.00 +0000",
        "Wed, 20 Sep 1995 04h19 +0000",
        "=?utf-8?q?Wed,_20_Sep_1995_04:19:00_+0000?=",
    ],
)
def test_a_date_is_read_with_its_zone(text: str) -> None:
    assert read_date(text, {}) == FOUR
    assert read(f"Date: {text}\r\n\r\n").defects == ()


@pytest.mark.parametrize(
    ("text", "date", "defect"),
    [
        ("Wed, 20 Sep 1995 04:19:00.123 +0000", FOUR.replace(microsecond=123_000), None),
        ("1995-09-20T04:19:00,5Z", FOUR.replace(microsecond=500_000), None),
        ("Tue, 19 Sep 1995 24:00:00 +0000", datetime(1995, 9, 20, tzinfo=UTC), None),
        ("Wed, 20 Sep 1995 12:19:00 PM", FOUR.replace(hour=12), None),
        ("Wed, 20 Sep 1995 04:19:00 XYZT", FOUR, "UnknownZoneDefect"),
        ("Wed, 20 Sep 1995 04:19:00 +9999", FOUR, "UnknownZoneDefect"),
        ("Wed, 20 Sep 1995 04:19:00 A", FOUR, "UnknownZoneDefect"),
        ("Wed, 20 Sep 1995 04:19:00 0200", FOUR, "UnknownZoneDefect"),
        ("Wed, 31 Feb 1995 04:19:00 +0000", None, "InvalidDateDefect"),
        ("Wed, 20 Sep 1995 25:19:00 +0000", None, "InvalidDateDefect"),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None, "InvalidDateDefect"),
        ("Wed, 20 Sep 1995 0419 +0000", None, "InvalidDateDefect"),
        ("09/10/1995 04:19", None, "InvalidDateDefect"),
        ("yesterday", None, "InvalidDateDefect"),
        ("", None, "InvalidDateDefect"),
    ],
)
def test_a_date_is_read_as_far_as_it_goes(text: str, date: datetime | None, defect: str | None) -> None:
    mail = read(f"Date: {text}\r\n\r\n")
    assert (mail.date, mail.defects) == (date, (defect,) if defect else ())


# -- bodies, names, ids --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "read", "defects"),
    [
        (b"aGVsbG8gd29ybGQsIHRoa==", b"hello world, th", ["InvalidBase64LengthDefect"]),
        (b"aGVsbG8gd29ybGQsIHRoa", b"hello world, th", ["InvalidBase64LengthDefect"]),
        (b"aGVsbG8gd29ybGQsIHR", b"hello world, t", ["InvalidBase64PaddingDefect"]),
        (b"QUJD\nREVG\n", b"ABCDEF", []),
        (b"QUI=\nQ0Q=\n", b"ABCD", []),
        (b"QUI\n=", b"AB", []),
        (b"QU!JD", b"ABC", ["InvalidBase64CharactersDefect"]),
        (b"QUJD====", b"ABC", ["InvalidBase64PaddingDefect"]),
        (b"", b"", []),
    ],
)
def test_base64_is_read_as_far_as_it_goes(data: bytes, read: bytes, defects: list[str]) -> None:
    found: dict[str, None] = {}
    assert (decoded(data, "base64", found), list(found)) == (read, defects)


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"a=C3=BC=\r\nb", b"a\xc3\xbcb"),
        (b"a=c3=bc", b"a\xc3\xbc"),
        (b"cut =C3=B", b"cut \xc3=B"),
        (b"cut =", b"cut "),
        (b"soft = \r\nbreak", b"soft break"),
        (b"blanks  \t\nend", b"blanks\nend"),
        (b"=ZZ=3D", b"=ZZ="),
    ],
)
def test_quoted_printable_is_read_as_far_as_it_goes(data: bytes, read: bytes) -> None:
    assert decoded(data, "quoted-printable", {}) == read


def test_other_transfer_encodings() -> None:
    found: dict[str, None] = {}
    assert decoded(b"hi\nbegin 644 a.txt\n#86)C\n \nend\n", "x-uuencode", found) == b"abc"
    assert not found
    assert decoded(b"QUJD", "x-base64", found) == decoded(b"=41BC", "quoted printable", found) == b"ABC"
    assert not found
    assert decoded(b"as it is", "rot13", found) == b"as it is"
    assert list(found) == ["UnknownTransferEncodingDefect"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('application/pdf name="a.pdf"', ("application/pdf", {"name": "a.pdf"})),
        ("text/plain, charset=utf-8", ("text/plain", {"charset": "utf-8"})),
        ("text/plain; charset=utf-8 format=flowed", ("text/plain", {"charset": "utf-8", "format": "flowed"})),
        ('text/plain; charset="utf-8" name="a b"', ("text/plain", {"charset": "utf-8", "name": "a b"})),
        ("text / plain ; charset = utf-8", ("text/plain", {"charset": "utf-8"})),
        ("text/plain; charset=us-ascii (plain)", ("text/plain", {"charset": "us-ascii"})),
        ('"text/plain"; charset=x', ("text/plain", {"charset": "x"})),
        ('filename="a.pdf"', ("", {"filename": "a.pdf"})),
        ("attachment; filename=a(1).pdf", ("attachment", {"filename": "a(1).pdf"})),
        ('a; filename="C:\\dir\\a.pdf"', ("a", {"filename": "C:\\dir\\a.pdf"})),
        ("a; filename*=utf-8''%D0%9F%D1%80.pdf", ("a", {"filename": "Пр.pdf"})),
        ("a; filename*=\"utf-8''%D0%9F.pdf\"", ("a", {"filename": "П.pdf"})),
        ("a; filename*=utf-8'%D0%9F.pdf", ("a", {"filename": "П.pdf"})),
        ("a; filename*=%D0%9F.pdf", ("a", {"filename": "П.pdf"})),
        ("a; filename*0*=koi8-r''%F0; filename*1*=%D2; filename*2=.pdf", ("a", {"filename": "Пр.pdf"})),
        ("a; filename*1=a; filename*2=b", ("a", {"filename": "ab"})),
        ("a; filename*00=a; filename*01=b", ("a", {"filename": "ab"})),
        ("a; filename*0*=utf-8''a; filename*1=\"b%20\"", ("a", {"filename": "ab%20"})),
        ("a; FileName*=UTF-8''a", ("a", {"filename": "a"})),
        ("a; filename==?utf-8?q?a_b=C3=BC?=", ("a", {"filename": "a bü"})),
        ("a; filename=\"=?utf-8?b?w7w=?= =?utf-8?b?w7w=?=\"", ("a", {"filename": "üü"})),
        ("a; filename*0=\"=?utf-8?q?=C3=BC\"; filename*1=\"?=\"", ("a", {"filename": "ü"})),
    ],
)  # fmt: skip
def test_parameters_are_read_in_every_spelling(value: str, expected: tuple[str, dict[str, str]]) -> None:
    assert split(value) == expected


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Your message of Thursday", ()),
        ("Message from bob@b.example of Thursday", ()),
        ('Your message of "Thu, 1 Jan 2026" <1@x>', ("1@x",)),
        ("<Your message of Thursday>", ()),
        ('"Ann" <ann@a.example>\'s message of Thursday <1@x>', ("1@x",)),
        ("Message from Ann <ann@a.example> of Thursday", ()),
        ("<1@x> (Ann's message of Thursday)", ("1@x",)),
        ("<<1@x>>", ("1@x",)),
        ("<1@\r\n x> <2@x>", ("1@x", "2@x")),
        ("1@x, 2@x", ("1@x", "2@x")),
        ("<abc123>", ("abc123",)),
        ("", ()),
    ],
)
def test_a_conversation_is_made_by_ids_alone(value: str, found: tuple[str, ...]) -> None:
    assert ids(value) == found
