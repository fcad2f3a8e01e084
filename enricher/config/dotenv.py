"""The variables that a .env file holds."""

from __future__ import annotations

import io
from pathlib import Path

from dotenv.parser import parse_stream

from enricher.errors import ConfigError


def read_dotenv(file: Path) -> dict[str, str]:
    """The variables in ``file``; none where there is no such file. Raises `ConfigError`.

    A value is taken as it stands: a ``$`` in a password is a ``$``. A name without a value is left out.
    """
    if not file.is_file():
        return {}
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(str(file), ".env file", error.strerror or str(error), "a readable file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), ".env file", f"byte {error.start}", "UTF-8 text") from error
    variables = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            # The line is not shown: it may be half of a password.
            line = f"line {binding.original.line}"
            raise ConfigError(str(file), ".env file", line, "NAME=value, a # comment or an empty line")
        if binding.key is not None and binding.value is not None:
            variables[binding.key] = binding.value
    return variables
