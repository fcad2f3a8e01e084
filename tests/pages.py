"""The pages of the documentation, and what they show."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    """The text of a page in docs."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(text: str, language: str = "python") -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
