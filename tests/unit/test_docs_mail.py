"""The examples of docs/mail_reading.md run as they stand there, and no defect is missing."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.mail_corpus import compare
from enricher.mail import defects, warnings
from enricher.mail.models import Mail
from tests.pages import blocks, page

PAGE = page("mail_reading.md")


def names(module: object) -> set[str]:
    return {value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}


def test_the_examples_run() -> None:
    assert len(blocks(PAGE)) == 2
    for block in blocks(PAGE):
        exec(compile(block, "docs/mail_reading.md", "exec"), {})


def test_every_defect_and_warning_is_explained_and_has_an_example() -> None:
    explained = set(re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE))
    assert names(defects) | names(warnings) <= explained
    assert names(defects) <= set(re.findall(r'^    "(\w+Defect)":', PAGE, re.MULTILINE))


def test_every_field_of_a_mail_is_explained() -> None:
    others = {"id", "message_id", "size", "fields", "raw"}
    for name in set(Mail.__struct_fields__) - others:
        assert f"`{name.rstrip('_')}`" in PAGE


def test_the_check_of_a_corpus_lists_what_is_read_otherwise(tmp_path: Path) -> None:
    (tmp_path / "same.eml").write_bytes(b"From: a@a.example\nSubject: hi\n\nbody\n")
    (tmp_path / "other.eml").write_bytes(b"From: a@a.example\noops\nSubject: hi\n\nbody\n")
    lines = list(compare(tmp_path))
    assert not any(line.startswith("same.eml") for line in lines)
    assert any(line.startswith("other.eml  email  subject: ours 'hi', theirs ''") for line in lines)
    assert lines[-1].startswith("2 mails, 1 read otherwise")
