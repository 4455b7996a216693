"""The mmbind command: finds a command's module when it is called, so that --help stays fast."""

from __future__ import annotations

from .interrupt import on_interrupt

with on_interrupt():
    import importlib
    import os
    import sys
    from collections.abc import Sequence
    from importlib.metadata import version
    from typing import Any

    import click

    from mmbind_data.errors import suggest

    from .output import fail

# name -> one line; the order is that of the work
COMMANDS = {
    "datasets": "Known datasets; one in full.",
    "convert": "Raw data to a store.",
    "new-dataset": "Begin a dataset of your own.",
    "partition": "A node's own store: its subjects, its modalities, nothing else.",
    "info": "What a store holds.",
    "validate": "Check a store on four levels.",
    "advise": "Which shared modality would bind two stores well, and why.",
    "bind": "Pair the samples of stores by what they share.",
    "report": "One HTML page on a bound store, a run or results.",
    "publish": "A bound store as a bundle, within the sources' rights.",
    "hydrate": "Attach local conversions to a bundle.",
    "verify": "Whether a bundle or a store is intact.",
    "diff": "What two stores hold that differs.",
    "pack": "A bundle or a store as one file.",
    "train": "Pre-train encoders on a bound store.",
    "evaluate": "Fine-tune a run on few labels and test it.",
    "export": "A run's encoders as files that work without mmbind.",
    "benchmark": "A table of methods by a protocol, from raw data on.",
    "demo": "The whole chain on small generated raw data.",
}


class Commands(click.Group):
    """Commands that are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        room = "" if cmd_name == "demo" else ".commands"  # the demo is built of the commands
        module = importlib.import_module(f"{room}.{cmd_name.replace('-', '_')}", __package__)
        command: click.Command = module.command
        return command

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run; a mistake in the options is one sentence, with ``--json`` a document too."""
        words = list(sys.argv[1:] if args is None else args)
        if not extra.get("standalone_mode", True):
            return super().main(words, **extra)
        try:
            settings = {**extra, "prog_name": "mmbind", "standalone_mode": False}
            ended = super().main(words, **settings)
        except click.UsageError as error:
            if not words:  # no mistake but a question: the message is the help
                error.show()
                sys.exit(error.exit_code)
            name = error.ctx.command_path if error.ctx else "mmbind"
            message = error.format_message()
            stop = "" if message.endswith((".", "?")) else "."
            message = f"{message}{stop} See {name} --help."
            fail("usage", message, error.exit_code, as_json="--json" in words)
        sys.exit(ended if isinstance(ended, int) else 0)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the words of the command line; click would say ``Aborted!`` to Ctrl-C."""
        with on_interrupt():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Import and run the command."""
        with on_interrupt():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the close name of a mistyped command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. {suggest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("mmbind"), prog_name="mmbind")
def main() -> None:
    """Bind incomplete multimodal sensor datasets: convert, pair, train, evaluate.

    Results go to standard output, progress to standard error. Exit codes: 0 ok, 1 internal bug,
    2 usage, 3 validation failed, 4 input missing or not recognised, 5 licence refusal, 6 integrity
    mismatch, 7 partial, 130 interrupted.
    """
    # Threads that spin while they wait slow two cores down thirty-fold when one is busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings are none of the user's
