"""The ``search`` section: the server of the search indices, and the indices that are made there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from enricher.config.types import ByteSize, PositiveSeconds, Section
from enricher.redaction import parse

_ODD = set('\\/*?"<>| ,#:')


def index_problem(name: object) -> str | None:
    """None for what a search server takes as the name of an index, else what would be right."""
    right = "the name of an index: lower case, at most 255 bytes, "
    if not isinstance(name, str) or not name or len(name.encode("utf-8", "replace")) > 255:
        return f"{right}not empty"
    if name != name.lower():
        return f"{right}such as {name.lower()!r}"
    if name[0] in "-_+" or name in (".", ".."):
        return f"{right}not beginning with -, _ or +, and neither . nor .."
    if _ODD & set(name) or not name.isprintable():
        return f'{right}without blanks and any of \\ / * ? " < > | , # :'
    return None


def search_url_problem(url: str) -> str | None:
    """None for an address of a search server, else what would be right; empty is good and means none."""
    right = "a URL such as https://host:9200 or http://host1:9200,host2:9200, or empty for none"
    if not url:
        return None
    address = parse(url)
    if address is None or address.scheme not in {"http", "https"} or address.options:
        return right
    try:
        hosts = [urlsplit(f"//{host}") for host in address.hosts.split(",")]
        well = all(host.hostname and host.port != 0 for host in hosts)
    except ValueError:
        well = False
    return None if well else f"{right}, with ports from 1 to 65535"


SearchUrl = Annotated[str, Meta(extra={"check": search_url_problem, "secret": True})]
Secret = Annotated[str, Meta(extra={"secret": True})]


class SearchSettings(Section, frozen=True, kw_only=True):
    """The search server, Elasticsearch or one that speaks like it; none without a ``url``.

    ``api_key``, or ``user`` and ``password``, win over those in the URL. ``timeout`` (seconds) bounds each
    request, ``max_bulk`` the bytes of one, unless a document alone has more. ``ca_file`` has the certificates
    to trust ("" those of the system); without ``verify`` any is trusted. ``indices`` {name: file} are made at
    the start besides those of the systems; the file is JSON, with ``settings`` and ``mappings``, "" for none.
    """

    url: SearchUrl = ""
    api_key: Secret = ""
    user: str = ""
    password: Secret = ""
    timeout: PositiveSeconds = 10.0
    max_bulk: ByteSize = 10_485_760
    ca_file: str = ""
    verify: bool = True
    indices: Mapping[str, str] = {}

    def is_on(self) -> bool:
        return bool(self.url)

    def validate(self) -> Iterable[tuple[str, str]]:
        if self.api_key and self.user:
            yield "api_key", "either search.api_key or search.user, not both"
        if bool(self.user) != bool(self.password):
            yield "user", "search.user and search.password, or neither"
        for name in self.indices:
            if problem := index_problem(name):
                yield "indices", f"{problem}; {name!r} is none"
