"""Tracebacks that begin where the code of somebody else does: a job, a node of a pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb

# Ours, and what runs other people's code for us; neither is imported for that.
_OURS = (str(Path(__file__).parent), str(Path(find_spec("anyio").origin or "").parent))  # type: ignore[union-attr]
_PYTHONS = (str(Path(os.__file__).parent), "<frozen ")


def from_foreign_code(error: BaseException) -> BaseException:
    """The exception with a traceback that begins where our own code ends.

    One that we have made, such as `TimeLimitExceeded`, has none, and no cause but one in the job's code.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    if trace is None and not type(error).__module__.startswith("enricher."):
        return error  # a mistake of ours: where it was made is what matters
    if trace is None:
        cause = next((each for each in _causes(error) if _is_foreign(each)), None)
        error.__cause__ = None if cause is None else from_foreign_code(cause)
        error.__suppress_context__ = True
    return error.with_traceback(trace)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen = {id(error)}
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_foreign(error: BaseException) -> bool:
    """Whether code that is neither ours nor Python's own was under way."""
    files = (frame.f_code.co_filename for frame, _ in walk_tb(error.__traceback__))
    return any(
        not file.startswith(_OURS) and (not file.startswith(_PYTHONS) or "site-packages" in file)
        for file in files
    )
