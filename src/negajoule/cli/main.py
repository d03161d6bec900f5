"""The command line: a table of commands, each loaded only when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from negajoule._version import __version__
from negajoule.errors import NegajouleError

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "advise": ("negajoule.cli.advise:advise", "Tell what to change first: format, batch or clocks."),
    "budget": ("negajoule.cli.budget:budget", "Hold the ledger against a limit in energy, carbon or water."),
    "budgets": ("negajoule.cli.budgets:budgets", "Limit what keys, teams, projects and models may use."),
    "audit": ("negajoule.cli.audit:audit", "Check whether published figures of serving can be."),
    "calibrate": (
        "negajoule.cli.calibrate:calibrate",
        "Learn this machine's watts from a counter or an external meter.",
    ),
    "catalog": ("negajoule.cli.catalog:catalog", "List the facts behind the figures."),
    "compress": (
        "negajoule.cli.compress:compress",
        "Make a model smaller and prove what that saves and loses.",
    ),
    "config": ("negajoule.cli.config:config", "Show every setting and where its value comes from."),
    "doctor": (
        "negajoule.cli.doctor:doctor",
        "Tell what can be measured here, how well, and how to improve it.",
    ),
    "estimate": (
        "negajoule.cli.estimate:estimate",
        "Estimate requests to models that run elsewhere, and your chat history.",
    ),
    "explain": ("negajoule.cli.explain:explain", "Explain a catalogue key or an error code."),
    "grid": ("negajoule.cli.grid:grid", "Tell the carbon intensity that is used here now, and who says so."),
    "keys": ("negajoule.cli.keys:keys", "Make, list, revoke and rotate the API keys of the server."),
    "play": ("negajoule.cli.play:play", "Send prompts to a server and show what each one cost."),
    "privacy": (
        "negajoule.cli.privacy:privacy",
        "Tell what is stored, where and how much; what never is.",
    ),
    "profile": (
        "negajoule.cli.profile:profile",
        "Measure what a model takes on this machine, prefill and decode apart.",
    ),
    "report": ("negajoule.cli.report:report", "Totals from the ledger."),
    "route": (
        "negajoule.cli.route:route",
        "Send each question to the model that answers it well for the least energy.",
    ),
    "run": ("negajoule.cli.run:run", "Measure any command, its children included."),
    "serve": ("negajoule.cli.serve:serve", "Start the OpenAI-compatible server that knows every joule."),
    "shape": ("negajoule.cli.shape:shape", "Choose when requests go, under a promise of latency."),
    "simulate": (
        "negajoule.cli.simulate:simulate",
        "Tell what a trace would cost on a fleet, and how long requests would wait.",
    ),
    "watch": ("negajoule.cli.watch:watch", "Show power, energy and carbon live, by device and by process."),
}
"""Each command, where it lives, and its one-line help, kept here so that ``--help`` loads nothing."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="negajoule")
def _negajoule() -> None:
    """Measure, cut and report what large language models cost in energy, carbon and water.

    Start with 'negajoule doctor', then 'negajoule run -- COMMAND' or 'negajoule serve'.
    """


def main() -> None:
    """Run the command line; a user's mistake ends in one message and no traceback.

    Exit codes: 0 success, 1 an error of ours or of the input, 2 wrong usage, 3 over budget, 130 interrupted;
    ``run`` passes on the exit code of the command it measured.
    """
    try:
        _negajoule.main(standalone_mode=False)
    except NegajouleError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`negajoule catalog | head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
