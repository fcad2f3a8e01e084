"""Addresses without their passwords, for whatever a person or a log may get to see.

An address is taken apart, and what is put together again is only what is known to be harmless: scheme, user,
hosts, path and the options in a list. In a text, where nobody says where an address ends, more is hidden
rather than less.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit

HIDDEN = "***"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
_SCHEME_BEFORE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*$")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(%25\w+)?\]|[^\[\]:@]*)(:\d*)?")
_WEB = {"http", "https", "ws", "wss", "file"}
# Options of the clients' addresses that say nothing of whom. Of any other the value is hidden.
_HARMLESS = re.compile(
    r"appname|auth(mechanism|source)|client_name|compressors|connect|db|decode_responses|directconnection|"
    r"encoding(_errors)?|fsync|health_check_interval|j|journal|loadbalanced|localthresholdms|lib_(name|version)|"
    r"max_?(connections|poolsize|connecting|idletimems|stalenessseconds)|minpoolsize|protocol|readconcernlevel|"
    r"readpreference|readpreferencetags|replicaset|retry(reads|writes|_on_timeout|_on_error)|server\w+ms|"
    r"single_connection_client|socket_(timeout|connect_timeout|keepalive|read_size)|\w+timeoutms|heartbeatfrequencyms|"
    r"srv(servicename|maxhosts)|ssl|ssl_(cert_reqs|check_hostname|ca_certs|ca_path|certfile|keyfile|min_version)|"
    r"tls|tls(insecure|allowinvalid\w+|cafile|certificatekeyfile|crlfile|disable\w+)|timeout|uuidrepresentation|"
    r"w|wtimeoutms|zlibcompressionlevel|unicode_decode_error_handler",
    re.IGNORECASE,
)
# On the web an address has options of all kinds.
_SECRET = re.compile(r"pass|pwd|secret|token|credential|auth|key|sig", re.IGNORECASE)
_WORD = re.compile(r"\S*")
_DONE = re.compile(r"\*\*\*\W*")
_FRAGMENT = re.compile(r"#[^\s'\"`,)>\]}]+")
_OPTIONS = re.compile(r"([?&;])([^=&;\s]*)(=?)([^&;\s]*)")


class Address(NamedTuple):
    """A URL taken apart, as it stands there: nothing is decoded. ``user`` is None without an "@"."""

    scheme: str
    user: str | None
    password: str | None
    hosts: str
    path: str
    options: str


def parse(url: str) -> Address | None:
    """The parts of a well-formed URL of a server, else None.

    What its user or password holds of ``/ ? # [ ]`` and blanks has to be percent-encoded, for there is no
    telling where it ends; so has an "@" behind the hosts.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme) or not url.isprintable() or any(map(str.isspace, url)):
        return None
    end = next((at for at, letter in enumerate(rest) if letter in "/?#"), len(rest))
    authority, tail = rest[:end], rest[end:]
    if "#" in tail or "@" in tail:
        return None
    userinfo, at_sign, hosts = authority.rpartition("@")
    if not _are_hosts(hosts) or "[" in userinfo or "]" in userinfo:
        return None
    try:
        urlsplit(url)
    except ValueError:  # which shows what is between "//" and "/"
        return None
    user, colon, password = userinfo.partition(":")
    path, _, options = tail.partition("?")
    return Address(scheme, user if at_sign else None, password if colon else None, hosts, path, options)


def _are_hosts(text: str) -> bool:
    return all(_HOST.fullmatch(host) for host in text.split(","))


def redact(url: str, *, options: bool = True) -> str:
    """One address without its password; one that is not well formed is not shown at all.

    Without ``options`` of these only the names are shown.
    """
    address = parse(url) if url else None
    if address is None:
        return HIDDEN if url else ""
    whom = _whom(address.user, address.password) if address.user is not None else ""
    given = _redact_options(f"?{address.options}", only_harmless=True) if address.options else ""
    if not options:
        given = _OPTIONS.sub(rf"\1\2\3{HIDDEN}", given)
    return f"{address.scheme}://{whom}{address.hosts}{address.path}{given}"


def stated_values(url: str) -> set[str]:
    """User, password and option values of a well-formed address, as they stand there and decoded."""
    address = parse(url)
    if address is None:
        return {url}
    options = _OPTIONS.findall(f"?{address.options}")
    values = {address.user, address.password, *(value for _, _, _, value in options)}
    return {one for value in values if value for one in (value, unquote(value), unquote_plus(value))}


def _whom(user: str, password: str | None) -> str:
    """User and password as they are shown. Who writes only one of them may well mean the other."""
    return f"{HIDDEN}@" if not password or "%" in user else f"{user}:{HIDDEN}@"


def _redact_options(options: str, *, only_harmless: bool) -> str:
    def shown(found: re.Match[str]) -> str:
        mark, name, equals, value = found.groups()
        if not equals:
            return f"{mark}{HIDDEN}" if name and only_harmless else found[0]
        if _DONE.fullmatch(value):
            return found[0]
        harmless = _HARMLESS.fullmatch(name) if only_harmless else not _SECRET.search(name)
        return f"{mark}{name}={value if harmless else HIDDEN}"

    return _OPTIONS.sub(shown, options)


def redact_text(text: str) -> str:
    """The text with the password of every URL in it replaced by ``***``.

    Covers ``scheme://user:password@host``, also where blanks or other odd characters stand in the password,
    and options such as ``?password=...``; a text without a URL comes back unchanged (the same object).
    """
    if "://" not in text:
        return text
    shown: list[str] = []
    at = 0
    while (mark := text.find("://", at)) >= 0:
        begin = mark + 3
        scheme = _SCHEME_BEFORE.search(text[max(at, mark - 32) : mark])
        shown.append(text[at:begin])
        clean, at = _redact_from(text, begin, web=scheme is not None and scheme[0].lower() in _WEB)
        shown.append(clean)
    return "".join([*shown, text[at:]])


def _redact_from(text: str, at: int, *, web: bool) -> tuple[str, int]:
    """What stands behind ``scheme://`` without secrets, and where in the text it ends."""
    word = _WORD.match(text, at)
    assert word is not None  # noqa: S101  it matches nothing, too
    end = word.end()
    authority = re.split(r"[/?#]", word[0], maxsplit=1)[0]
    userinfo_end = text.rfind("@", at, end)
    if "@" not in authority:
        # The "@" may be part of a path, or a password may hold what ends a word or a host.
        if web and ":" not in authority:
            userinfo_end = -1
        elif not web and userinfo_end < 0:
            further = text.find("://", at)
            stop = further if further >= 0 else len(text)
            line_end = text.find("\n", at, stop)
            userinfo_end = text.rfind("@", at, line_end if line_end >= 0 else stop)
            if userinfo_end >= 0:
                end = _WORD.match(text, userinfo_end).end()  # type: ignore[union-attr]
    whom = ""
    if userinfo_end >= 0:
        user, colon, password = text[at:userinfo_end].partition(":")
        whom = _whom(user, password if colon and not re.search(r"[\s/?#@]", user) else None)
        at = userinfo_end + 1
    elif not web and not _are_hosts(authority.rstrip(".,:;'\"`)>]}")):
        # A password whose "@" is missing.
        return HIDDEN, end
    rest = text[at:end]
    if not web:  # no address of a server has a fragment
        rest = _FRAGMENT.sub(f"#{HIDDEN}", rest)
    head, mark, options = rest.partition("?")
    if not mark:
        return whom + rest, end
    clean = _redact_options(mark + options, only_harmless=not web)
    if not web and clean.endswith(HIDDEN) and clean != mark + options:
        # Where there is a blank in it, the value goes on.
        line_end = text.find("\n", end)
        end = line_end if line_end >= 0 else len(text)
    return whom + head + clean, end


def redact_value(value: object) -> object:
    """The value with the password of every URL hidden, however deep the text lies; odd values as text."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, int | float | None):
        return value
    if isinstance(value, Mapping):
        return {redact_text(str(key)): redact_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(item) for item in value]
    return redact_text(repr(value))
