"""Output of commands: results on stdout, as text or one JSON object; the rest on stderr."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mmbind_data.errors import MMBindError, printable
from mmbind_data.progress import Progress, duration

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = "mmbind-cli 1.0"
INTERRUPTED = 130
FIRST_REPORTS_S = 5.0  # a launcher ends the other processes long before
BROKEN_PIPE = 141  # as a shell reports a process that SIGPIPE ended
Clock = Callable[[], float]


@dataclass(frozen=True)
class Report:
    """What a command found or made."""

    result: Any  # JSON value of --json
    lines: Sequence[Any] = ()  # text for people
    issues: Sequence[dict[str, str]] = ()  # each with code, severity, where, message, fix
    exit_code: int = 0
    echo_issues: bool = True  # False: `lines` contain the issues already


def make_issue(code: str, severity: str, message: str) -> dict[str, str]:
    """An issue that is about the command as a whole."""
    return {"code": code, "severity": severity, "where": "", "message": message, "fix": ""}


def notes(texts: Iterable[str]) -> list[dict[str, str]]:
    """Issues that are not errors; a text that begins with ``warning: `` is a warning."""
    found = []
    for text in texts:
        severity = "warning" if text.startswith("warning: ") else "info"
        found.append(make_issue("note", severity, printable(text.removeprefix("warning: "))))
    return found


def reported(function: Callable[..., Report]) -> Callable[..., Report]:
    """Give a command ``--json`` and ``--quiet``, print its report, turn errors into exit codes.

    A command with a parameter ``screen`` gets one.
    """
    wants_screen = "screen" in inspect.signature(function).parameters

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress, no remarks.")
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, quiet: bool, **options: Any) -> Report:
        if wants_screen:
            options["screen"] = Screen(quiet=quiet)
        try:
            report = function(*args, **options)
        except MMBindError as error:
            if int(os.environ.get("RANK", "0")) > 0:
                # All processes of a launcher may meet the same error: the first one reports it, and
                # the launcher ends the others while they wait. Else this process reports it.
                time.sleep(FIRST_REPORTS_S)
            fail(error.code, str(error), error.exit_code, as_json=as_json)
        except KeyboardInterrupt:
            interrupted(as_json=as_json)
        except OSError as error:  # the disk is full, the device is gone: not a bug
            fail("system", f"cannot go on: {error}.", 4, as_json=as_json)
        _deliver(report, as_json=as_json, quiet=quiet)
        if report.exit_code:
            sys.exit(report.exit_code)
        return report

    return run


def interrupted(*, as_json: bool) -> NoReturn:
    """Report that Ctrl-C was pressed and end the process."""
    message = "interrupted: run the same command to resume."
    fail("interrupted", message, INTERRUPTED, as_json=as_json)


def fail(code: str, message: str, exit_code: int, *, as_json: bool) -> NoReturn:
    """Print an error and end the process."""
    if as_json:
        _print_json(ok=False, result=None, issues=[make_issue(code, "error", message)])
    click.secho(f"error: {message}", fg="red", err=True)
    sys.exit(exit_code)


def _deliver(report: Report, *, as_json: bool, quiet: bool) -> None:
    """Print a report; a reader that went away is no error, a full disk is one."""
    try:
        if as_json:
            ok, issues = report.exit_code == 0, list(report.issues)
            _print_json(ok=ok, result=report.result, issues=issues)
        else:
            _print(report, quiet=quiet)
        sys.stdout.flush()
    except BrokenPipeError:
        # what is still buffered has no reader: Python would complain once more on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except OSError as error:
        click.secho(f"error: cannot print the result: {error}.", fg="red", err=True)
        os._exit(4)


def _print(report: Report, *, quiet: bool) -> None:
    if report.lines:
        from rich.console import Console

        console = Console(soft_wrap=True, highlight=False, markup=False)
        for line in report.lines:
            console.print(line)
    if not quiet and report.echo_issues:
        for issue in report.issues:
            where = f"{issue['where']}: " if issue["where"] else ""
            click.echo(f"{issue['severity']}: {where}{issue['message']}", err=True)


def _print_json(**document: Any) -> None:
    click.echo(json.dumps({"schema": SCHEMA, **document}, ensure_ascii=False))


@dataclass(frozen=True)
class Screen:
    """Where progress is shown: a bar on a terminal, plain lines elsewhere."""

    quiet: bool = False

    def remark(self, text: str) -> None:
        """Print a remark at once, on a terminal above the bar; see `notes`."""
        if not self.quiet:
            (issue,) = notes([text])
            # rich replaces sys.stderr while it shows a bar, and prints such lines above the bar;
            # click would write to the real one
            sys.stderr.write(f"{issue['severity']}: {issue['message']}\n")
            sys.stderr.flush()

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress | None]:
        """Give a callback ``(done, total, text)`` for the time of the block."""
        if self.quiet:
            yield None
        elif sys.stderr.isatty():
            with progress_bar(title) as update:
                yield update
        else:
            yield progress_lines(title)


@contextmanager
def progress_bar(title: str, console: Console | None = None) -> Iterator[Progress]:
    """A bar with count, time left and the present step, which goes away at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Bar(*columns, console=console or Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, text="")

        def update(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, text=text)

        yield update


def progress_lines(title: str, every_s: float = 5.0, now: Clock = time.monotonic) -> Progress:
    """Print a line with count, present step and elapsed time, every few seconds and at the end."""
    begin = last = now()

    def update(done: int, total: int, text: str) -> None:
        nonlocal last
        at = now()
        if at - last >= every_s or done == total:
            last = at
            line = f"{title}: {done} of {total}, {text} ({duration(at - begin)})"
            click.echo(line, err=True)

    return update
