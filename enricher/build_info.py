"""Which build of enricher and of Python this is."""

from __future__ import annotations

import platform
from importlib.util import find_spec


def analytics_compiled() -> bool:
    """Whether the option mathematics was compiled when enricher was installed (``ENRICHER_COMPILE=1``)."""
    found = find_spec("enricher.analytics.black76")
    return found is not None and not str(found.origin).endswith(".py")


def described() -> str:
    """Both in a line: ``CPython 3.11.7 (GCC 12.2.0), analytics in pure Python``."""
    analytics = "compiled" if analytics_compiled() else "in pure Python"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python} ({platform.python_compiler()}), analytics {analytics}"
