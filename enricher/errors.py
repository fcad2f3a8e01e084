"""Every error that enricher raises on purpose.

    EnricherError
    |-- ConfigError         a setting is wrong: file, key, value, what would be right
    |   `-- WrongSetting    the same, by code that cannot know where it was set
    |-- BadMessage          this message can never be processed: path, what was expected
    |-- UnknownTopic        no route for a topic
    |-- Held                a bad message that other settings would make a good one
    |-- Overloaded          the pool is full and the caller asked not to wait
    |-- EngineFailed        a part of the engine itself ended or raised: nothing is served any more
    |-- SinkError
    |   |-- SinkUnavailable the server cannot be reached, is frozen or refuses everybody: wait and repeat
    |   `-- WriteRefused    one of the writes can never be written; the engine finds out which
    `-- EmbeddedError       a bundled server could not be found, started or reached

The message of each names the thing, shows the value (never a password) and says what would help. The original
exception stays attached as ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Sequence

from enricher.redaction import redact_text, redact_value


class EnricherError(Exception):
    """The root of the family; catch it to catch all that enricher raises on purpose."""


class ConfigError(EnricherError):
    """A setting is wrong.

    ``source`` is the file or environment variable, ``key`` the dotted setting, ``value`` what
    was found there (never a password), ``expected`` what would be right. Where several settings are wrong
    these are of the first, ``every`` holds an error for each, and the text has a line for each.
    """

    every: tuple[ConfigError, ...] = ()

    def __init__(self, source: str, key: str, value: object, expected: str) -> None:
        self.source = source
        self.key = key
        self.value = redact_value(value)
        self.expected = expected
        super().__init__(f"{source}: {key} = {self.value!r}: expected {expected}")

    @staticmethod
    def together(errors: Sequence[ConfigError]) -> ConfigError:
        """One error for all of these; there is at least one."""
        every = tuple(one for error in errors for one in error.every or (error,))
        first = every[0]
        if len(every) == 1:
            return first
        error = ConfigError(first.source, first.key, first.value, first.expected)
        error.every, error.args = every, ("\n".join(map(str, every)),)
        return error


class WrongSetting(ConfigError):
    """A setting turns out wrong when it is used, by code that cannot know where it was set.

    `enricher.config.named_by_origin` makes it a `ConfigError` with that place as its source.
    """

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__("settings", key, value, expected)


class BadMessage(EnricherError):
    """A message that can never be processed, however often it is tried.

    ``path`` is the JSON path of the culprit (``$`` is the whole message), ``expected`` what
    should have stood there and ``found`` a short rendering of what did.
    """

    def __init__(self, path: str, expected: str, found: str = "") -> None:
        self.path = path
        self.expected = expected
        self.found = found
        super().__init__(f"{path}: expected {expected}" + (f", got {found}" if found else ""))


class UnknownTopic(BadMessage):
    """No route is registered for a topic (it came through a pattern subscription)."""

    def __init__(self, topic: str, known: tuple[str, ...]) -> None:
        self.topic = topic
        self.known = known
        super().__init__("$", f"one of the known topics {', '.join(known) or '(none)'}", topic)


class Held(EnricherError):
    """A bad message that a worker with other settings could process, to be held before it is set aside.

    ``why`` is what its dead letter says, ``seconds`` how long it is held.
    """

    def __init__(self, why: BadMessage, seconds: float) -> None:
        self.why = why
        self.seconds = seconds
        super().__init__(str(why))


class Overloaded(EnricherError):
    """The pool is full; the message was not accepted. Try again later or slow down."""


class EngineFailed(EnricherError):
    """A part of the engine ended or raised, which none may; what it raised is the ``__cause__``."""

    def __init__(self, part: str, why: str) -> None:
        self.part = part
        super().__init__(f"the engine has failed, for its {part} ended: {why}")


class SinkError(EnricherError):
    """The root of what a sink reports."""


class SinkUnavailable(SinkError):
    """The server cannot be reached, is frozen, fails over or refuses everybody; no message is to blame."""

    def __init__(self, sink: str, reason: str) -> None:
        self.sink = sink
        self.reason = redact_text(reason)
        super().__init__(f"{sink} is unavailable: {self.reason}")


class WriteRefused(SinkError):
    """One of the writes that a sink was given can never be written, because of what is in it.

    Raise it from what says so, where the sink does not know which write it is. ``path`` says where the
    trouble is in that write's document, if known.
    """

    def __init__(self, reason: str, path: str | None = None) -> None:
        self.path = path
        super().__init__(reason)


class EmbeddedError(EnricherError):
    """A bundled server could not be found, started or reached."""
