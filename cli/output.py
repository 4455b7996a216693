"""How commands speak: results on stdout (text or one JSON object), everything else on stderr."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mmbind_data.errors import MMBindError, printable
from mmbind_data.progress import Progress, duration

from .time_left import time_left

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = "mmbind-cli 1.0"
INTERRUPTED = 130
FIRST_TELLS_S = 5.0  # a launcher ends the other processes long before
BROKEN_PIPE = 141  # as a shell reports a process that SIGPIPE ended
Clock = Callable[[], float]


@dataclass(frozen=True)
class Report:
    """What a command found or made.

    Attributes
    ----------
    result : JSON value behind ``--json``
    lines : text for people
    issues : remarks: dictionaries of code, severity, where, message, fix
    exit_code : int
    echo_issues : bool
        Off where ``lines`` tell the issues already.
    """

    result: Any
    lines: Sequence[Any] = ()
    issues: Sequence[dict[str, str]] = field(default=())
    exit_code: int = 0
    echo_issues: bool = True


def make_issue(code: str, severity: str, message: str) -> dict[str, str]:
    """An entry of ``issues`` that is about the command as a whole."""
    return {"code": code, "severity": severity, "where": "", "message": message, "fix": ""}


def notes(texts: Iterable[str]) -> list[dict[str, str]]:
    """Issues that are not errors; a text that begins with ``warning: `` is a warning."""
    return [
        make_issue(
            "note",
            "warning" if text.startswith("warning: ") else "info",
            printable(text.removeprefix("warning: ")),
        )
        for text in texts
    ]


def reported(function: Callable[..., Report]) -> Callable[..., Report]:
    """Give a command ``--json`` and ``--quiet``, print its report, turn errors into exit codes."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress, no remarks.")
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, quiet: bool, **options: Any) -> Report:
        screen = Screen(quiet=quiet)
        try:
            report = function(*args, screen=screen, **options)
        except MMBindError as error:
            _let_the_first_tell()
            fail(error.code, str(error), error.exit_code, as_json=as_json)
        except KeyboardInterrupt:
            interrupted(as_json=as_json)
        except OSError as error:  # disk full, device gone: nothing of ours, but no bug either
            fail("system", f"cannot go on: {error}.", 4, as_json=as_json)
        _deliver(report, as_json=as_json, quiet=quiet)
        if report.exit_code:
            sys.exit(report.exit_code)
        return report

    return run


def _let_the_first_tell() -> None:
    """Of the processes of a launcher that meet one error only the first one tells it.

    It fails, and the launcher ends the others while they wait. If it did not meet the error, this
    process tells it after all.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        time.sleep(FIRST_TELLS_S)


def interrupted(*, as_json: bool) -> NoReturn:
    """Tell that Ctrl-C was pressed and end the process."""
    message = "interrupted: run the same command to resume."
    fail("interrupted", message, INTERRUPTED, as_json=as_json)


def fail(code: str, message: str, exit_code: int, *, as_json: bool) -> NoReturn:
    """Print an error and end the process."""
    if as_json:
        issue = make_issue(code, "error", message)
        _print_json({"schema": SCHEMA, "ok": False, "result": None, "issues": [issue]})
    click.secho(f"error: {message}", fg="red", err=True)
    sys.exit(exit_code)


def _deliver(report: Report, *, as_json: bool, quiet: bool) -> None:
    """Print a report; a reader that went away is no error, a full disk is one."""
    try:
        _print(report, as_json=as_json, quiet=quiet)
        sys.stdout.flush()
    except BrokenPipeError:
        # what is still buffered has nowhere to go: Python would complain once more on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except OSError as error:
        click.secho(f"error: cannot print the result: {error}.", fg="red", err=True)
        os._exit(4)


def _print(report: Report, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        ok = report.exit_code == 0
        issues = list(report.issues)
        _print_json({"schema": SCHEMA, "ok": ok, "result": report.result, "issues": issues})
        return
    if report.lines:
        from rich.console import Console

        console = Console(soft_wrap=True, highlight=False, markup=False)
        for line in report.lines:
            console.print(line)
    if not quiet and report.echo_issues:
        for issue in report.issues:
            where = f"{issue['where']}: " if issue["where"] else ""
            click.echo(f"{issue['severity']}: {where}{issue['message']}", err=True)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


@dataclass(frozen=True)
class Screen:
    """Where progress goes: a bar on a terminal, plain lines elsewhere; both tell the time left."""

    quiet: bool = False

    def tell(self, text: str) -> None:
        """Print a remark at once, on a terminal above the bar; see `notes`."""
        if not self.quiet:
            (issue,) = notes([text])
            # rich takes over sys.stderr while a bar is shown and puts lines above it; click would
            # write beside it
            sys.stderr.write(f"{issue['severity']}: {issue['message']}\n")
            sys.stderr.flush()

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress | None]:
        """Give a callback ``(done, total, text)`` for the time of the block."""
        if self.quiet:
            yield None
        elif sys.stderr.isatty():
            with _bar(title) as update:
                yield update
        else:
            yield _plain_lines(title)


@contextmanager
def _bar(
    title: str, console: Console | None = None, now: Clock = time.monotonic
) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    left = time_left(now)
    console = console or Console(stderr=True)
    with Bar(*columns, console=console, transient=True, get_time=now) as bar:
        task = bar.add_task(title, total=None, text="")

        def update(done: int, total: int, text: str) -> None:
            told = _with_time_left(text, left(done, total))
            bar.update(task, completed=done, total=total, text=told)

        yield update


def _plain_lines(title: str, every_s: float = 5.0, now: Clock = time.monotonic) -> Progress:
    last, left = now(), time_left(now)

    def update(done: int, total: int, text: str) -> None:
        nonlocal last
        seconds, at = left(done, total), now()
        if at - last >= every_s or done == total:
            last = at
            click.echo(f"{title}: {done} of {total}, {_with_time_left(text, seconds)}", err=True)

    return update


def _with_time_left(text: str, seconds: float | None) -> str:
    """Text of a step and how long the others take, which neither the first nor the last tells."""
    return f"{text} ({duration(seconds)} left)" if seconds else text
