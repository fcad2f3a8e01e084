"""HTML, links, and what others say of a sender: what a reader may trust, and what not."""

from __future__ import annotations

import pytest

from enricher.mail.authentication import authentications
from enricher.mail.html import misleads, read_html, real_target
from enricher.mail.message import parse_message
from enricher.mail.models import Authentication, Link


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Hello&nbsp;<b>Bob</b>,</p><p>how   are\nyou?</p>", "Hello Bob,\n\nhow are you?"),
        ("a<br>b<BR/>c", "a\nb\nc"),
        ("<ul><li>one<li>two</ul>", "one\ntwo"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\n\nc"),
        ("a<script>alert('<b>')</script>b<style>p { }</style>c", "abc"),
        ("a<SCRIPT>x</script >b", "ab"),
        ("a<script>never closed", "a"),
        ("a<!-- <b> -->b<!-->c<!---->d<!doctype html>e<?php x ?>f", "abcdef"),
        ("a<!-- never closed", "a"),
        ("1 < 2 & 3 &lt; 4 &#x41;&amp;", "1 < 2 & 3 < 4 A&"),
        ('<a title=">">x</a> <b title=\'>\'>y', "x y"),
        ('<p title="no end>x</p><p>y</p>', "x\n\ny"),
        ("cut <b", "cut"),
        ("<title>t</title><body>b", "b"),
        ("<textarea>a<b>c</textarea>", "a<b>c"),
        ('<img src=x alt="a picture">', "a picture"),
        ("evil\u202egnp.exe z\u200bero \x00\x07", "evilgnp.exe zero"),
        ("", ""),
    ],
)  # fmt: skip
def test_html_is_offered_as_the_text_that_it_shows(html: str, text: str) -> None:
    assert read_html(html, {})[0] == text


@pytest.mark.parametrize(
    ("html", "text", "target", "misleading"),
    [
        ('<a href="https://a.ex/x?a=1&amp;b=2">here</a>', "here", "https://a.ex/x?a=1&b=2", False),
        ("<A HREF=https://a.ex>a.ex</A>", "a.ex", "https://a.ex", False),
        ("<a href='https://www.a.ex'>https://a.ex/in</a>", "https://a.ex/in", "https://www.a.ex", False),
        ('<a href="https://evil.ex/">https://bank.ex</a>', "https://bank.ex", "https://evil.ex/", True),
        ('<a href="https://evil.ex/"><b>www.bank</b>.ex</a>', "www.bank.ex", "https://evil.ex/", True),
        ('<a href="https://bank.ex@evil.ex/">bank.ex</a>', "bank.ex", "https://bank.ex@evil.ex/", True),
        ('<a href="https://evil.ex\\@bank.ex/">bank.ex</a>', "bank.ex", "https://evil.ex/@bank.ex/", True),
        ('<a href="https://bank.ex.evil.ex/">bank.ex</a>', "bank.ex", "https://bank.ex.evil.ex/", True),
        ('<a href="ht\ntps://evil.ex">bank.ex</a>', "bank.ex", "https://evil.ex", True),
        ('<a href=" https://evil.ex">\u202eelpmaxe.knab</a>', "elpmaxe.knab", "https://evil.ex", True),
        ('<a href="mailto:a@evil.ex">a@bank.ex</a>', "a@bank.ex", "mailto:a@evil.ex", True),
        ('<a href="mailto:a@a.example">a@a.example</a>', "a@a.example", "mailto:a@a.example", False),
        ('<a href="java&#115;cript:alert(1)">here</a>', "here", "javascript:alert(1)", False),
        ('<a title="x>y" href="https://a.ex">never closed', "never closed", "https://a.ex", False),
        ('<base href="https://a.ex/b/"><a href="c">x</a>', "x", "https://a.ex/b/c", False),
        ('<a href="https://[bad">bank.ex</a>', "bank.ex", "https://[bad", True),
        ('<area href="https://a.ex">', "", "https://a.ex", False),
        ('<form action="https://evil.ex/"><input></form>', "", "https://evil.ex/", False),
        ('<a href="https://a.ex">one<a href="https://a.ex">', "one", "https://a.ex", False),
    ],
)  # fmt: skip
def test_a_link_has_its_real_target(html: str, text: str, target: str, misleading: bool) -> None:
    links = read_html(html, {})[1]
    assert links[0] == Link(text=text, target=target, misleading=misleading)


def test_words_are_no_host() -> None:
    assert not misleads("click here now", "https://evil.ex")
    assert not misleads("", "https://evil.ex")
    assert real_target("  #top ") == "#top"


def test_what_is_long_is_read_as_far_as_a_million_characters() -> None:
    defects: dict[str, None] = {}
    text, links = read_html("<a href=x>x</a>" * 100_000, defects)
    assert (len(links), list(defects)) == (1000, ["LongHtmlDefect", "TooManyLinksDefect"])
    assert len(text) < 1_000_000


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (
            "mx.example.org; spf=pass smtp.mailfrom=a@a.example; dkim=fail (bad; sig) header.d=a.example",
            [
                ("mx.example.org", "spf", "pass", None, (("smtp.mailfrom", "a@a.example"),)),
                ("mx.example.org", "dkim", "fail", None, (("header.d", "a.example"),)),
            ],
        ),
        (
            'mx.example.org 1; dmarc/1 = none reason="no; policy" policy.dmarc=none',
            [("mx.example.org", "dmarc", "none", "no; policy", (("policy.dmarc", "none"),))],
        ),
        (
            "spf=softfail (sender IP is 192.0.2.1) smtp.mailfrom=a",
            [("", "spf", "softfail", None, (("smtp.mailfrom", "a"),))],
        ),
        ("mx.example.org; none", []),
        ("", []),
        ("mx.example.org; ;;; =; spf", []),
    ],
)  # fmt: skip
def test_what_hosts_say_of_a_sender_is_read(value: str, found: list[tuple[object, ...]]) -> None:
    read = authentications([value])
    assert [(one.host, one.method, one.result, one.reason, one.properties) for one in read] == found
    assert all(isinstance(one, Authentication) for one in read)


def test_of_several_hosts_each_is_named() -> None:
    raw = b"Authentication-Results: mine.ex; spf=fail\nAuthentication-Results: evil.ex; spf=pass\n\n"
    mail = parse_message(raw)
    said = [(one.host, one.result) for one in mail.authentication]
    assert said == [("mine.ex", "fail"), ("evil.ex", "pass")]
    assert mail.document()["authentication"][0]["host"] == "mine.ex"


@pytest.mark.parametrize(
    ("head", "warnings"),
    [
        ("From: a@a.example\nReply-To: b@b.example\n", ("ReplyToDiffers",)),
        ("From: a@a.example\nReply-To: Ann <A@a.example>\n", ()),
        ("From: a@a.example\nReply-To: a@a.example, b@b.example\n", ("ReplyToDiffers",)),
        ("From: boss@bank.ex <x@evil.ex>\n", ("AddressInName",)),
        ("From: a@a.example <a@a.example>\n", ()),
        ("From: =?utf-8?q?boss=40bank.ex?= <x@evil.ex>\n", ("AddressInName",)),
        ("From: boss\uff20bank.ex <x@evil.ex>\n", ("AddressInName",)),
        ('From: "boss@bank.ex"@evil.ex\n', ("AddressInName",)),
        ("From: boss@bank.ex\0 <x@evil.ex>\n", ("AddressInName", "HiddenCharacters")),
        ("From: boss@bank.ex, x@evil.ex\n", ("SeveralSenders",)),
        ("From: boss@bank.ex\nfrom : x@evil.ex\n", ("SeveralSenders",)),
        ("\ufeff\ufeffFrom: boss@bank.ex\nFrom: x@evil.ex\n", ("SeveralSenders",)),
        ("From: a@a.ex\nFrom: A <A@a.ex>\n", ()),
        ("From: boss@bank.ex\nSender: x@evil.ex\n", ("SenderDiffers",)),
        ("From: Boss \u202e xe.knab <x@evil.ex>\n", ("HiddenCharacters",)),
        ("From: boss@ba\u200bnk.ex\n", ("HiddenCharacters",)),
        ("Content-Type: application/x; name=a\u202efdp.exe\n", ("HiddenCharacters",)),
        ("Subject: \U0001f468\u200d\U0001f469 ok\nFrom: \u0645\u06cc\u200c\u0634 <a@a.ex>\n", ()),
        ("From: boss@b\u0430nk.ex\n", ("LookAlike",)),
        ("From: x@xn--bnk-6cd.ex\n", ("LookAlike",)),
        ("From: P\u0430yPal <x@evil.ex>\n", ("LookAlike",)),
        ("From: x@\u0441\u043e\u0440\u0443.ex\n", ("LookAlike",)),
        ("From: Jörg, Привет <x@müller.ex>\nReply-To: x@müller.ex\n", ()),
        ("From: x@привет.рф\n", ()),
        ("From: x@xn--bnk-\xff.ex\n", ()),
        ("Content-Type: text/html\n\n<a href=https://evil.ex>bank.ex</a>", ("LinkTextDiffers",)),
        ("Content-Type: text/html\n\n<a href=javascript:x>x</a>", ("ScriptLink",)),
        ("Reply-To: b@b.example\n", ()),
    ],
)
def test_what_a_reader_should_beware_of_is_named(head: str, warnings: tuple[str, ...]) -> None:
    assert parse_message(f"{head}\n\n".encode()).warnings == warnings


def test_html_is_kept_as_it_is() -> None:
    mail = parse_message(b"Content-Type: text/html\n\n<p>a<script>x</script>")
    assert (mail.html, mail.html_text, mail.text) == ("<p>a<script>x</script>", "a", None)
