"""The command ``enricher``: its subcommands, what they share, and what their exit codes mean."""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TextIO

import click

from enricher import __version__
from enricher.config import redact_text
from enricher.errors import ConfigError, EnricherError
from enricher.system import Command, code_of
from enricher.systems import SYSTEMS

# The help of the whole program shows these, so that it need not import every command.
COMMANDS: Mapping[str, Command] = MappingProxyType(
    {
        "run": Command("enricher.cli.run:command", "Run a worker until SIGTERM or Ctrl-C."),
        "check": Command(
            "enricher.cli.check:command", "Test the settings and the servers, and print warnings."
        ),
        "health": Command(
            "enricher.cli.health:command", "Say whether the worker on this host works (exit code 0 or 1)."
        ),
        "top": Command("enricher.cli.top:command", "Watch the running workers."),
        "dlq": Command("enricher.cli.dlq:command", "List, show, retry and discard dead letters."),
        **{name: command for system in SYSTEMS for name, command in system.commands.items()},
    }
)

OK, FAILED, WRONG, LOST, SECOND_SIGNAL = 0, 1, 2, 3, 130

# A full or broken disk behind standard output or a file is nobody's mistake in here.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}

EPILOG = """\b
Exit codes:
  0    done; also after SIGTERM or Ctrl-C, when no message was lost
  1    failed: a server is unreachable or ended, a worker is not healthy
  2    a setting or an argument is wrong
  3    stopped, and messages were lost: the drain deadline had passed
  130  ended at once by a second SIGTERM or Ctrl-C

\b
Settings: the command line wins over the environment (ENRICHER_REDIS__URL is
redis.url), then come the file .env of this folder, config.toml, the defaults.
"""


@contextmanager
def nothing_collected() -> Iterator[None]:
    """In the block no garbage is looked for: imports leave none, and it is a fifth of their time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for: ``command`` of their module."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with nothing_collected():
            return code_of(COMMANDS[cmd_name].code)  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])


def _say_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from enricher.build_info import described  # no other command needs it

        click.echo(f"enricher, version {__version__}, {described()}")
        ctx.exit()


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_say_version,
    help="Show the version and exit.",
)  # fmt: skip
def cli() -> None:
    """Turn a raw market feed into enriched, stored, cached and republished data.

    \b
    See it work:        enricher demo
    With real servers:  enricher check && enricher run
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code.

    A command says 0 by returning and anything else by ``ctx.exit(code)``. A wrong setting ends it with
    2, any other error enricher raises on purpose with 1; both without passwords, a line for each mistake.
    """
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 shows "?" for a bar of a plot
    _find_modules_here()
    try:
        code = exit_code(arguments)
    except Exception:  # noqa: BLE001
        # As the interpreter would say it, but for the passwords.
        click.echo(redact_text(traceback.format_exc()), nl=False, err=True)
        code = FAILED
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
            continue
        # The interpreter would try again at exit, and change the code.
        _leave(stream)
    if len(threading.enumerate()) > 1:
        # A driver's thread may still wait for a reply of a frozen server; the interpreter would wait for
        # the thread. Whatever could be committed is, and what could not is counted and logged.
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


def exit_code(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        result = cli.main(arguments, prog_name="enricher", standalone_mode=False)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        click.echo(redact_text(shown.getvalue()), nl=False, err=True)
        return error.exit_code
    except click.Abort:
        return SECOND_SIGNAL
    except BrokenPipeError:
        # Whoever read us (`| head`) has gone; nothing more may be written, not even at exit.
        _leave(sys.stdout)
        return FAILED
    except BaseExceptionGroup as group:
        # A reader that goes while tasks are under way; rich says it by ending the process.
        if group.split((BrokenPipeError, SystemExit))[1] is not None:
            raise
        _leave(sys.stdout)
        return FAILED
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        click.echo(f"Error: cannot write: {error.strerror}", err=True)
        return FAILED
    except ConfigError as error:
        for each in error.every or (error,):
            click.echo(f"Wrong setting: {redact_text(str(each))}", err=True)
        return WRONG
    except EnricherError as error:
        click.echo(f"Error: {redact_text(str(error))}", err=True)
        return FAILED
    return result if isinstance(result, int) else OK


def _open_what_is_closed() -> None:
    """Give the process the three streams it was started without (`>&-`): they lead nowhere.

    Otherwise the first connection that is made would be standard output.
    """
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def _find_modules_here() -> None:
    """Let settings name modules of the working folder, as with ``python -m``; installed ones come first."""
    with suppress(OSError):  # a folder that is gone
        here = str(Path.cwd())
        if not sys.flags.safe_path and not {"", here} & set(sys.path):
            sys.path.append(here)


def _leave(stream: TextIO) -> None:
    """What ``stream`` still holds goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
