"""The command line: the only place that prints, reads arguments or exits.

Every command lives in a module of its own, which is imported when that command is asked for.
So `rockets launch` never pays for Quart, and `rockets serve` never for what it takes to launch.
"""

from importlib import import_module

import click

COMMANDS = {
    "serve": "rockets.cli.serve:serve",
    "launch": "rockets.cli.launch:launch",
    "watch": "rockets.cli.watch:watch",
    "verify": "rockets.cli.verify:verify",
    "bench": "rockets.cli.bench:bench",
    "bench-scale": "rockets.cli.bench_scale:bench_scale",
    "bench-feed": "rockets.cli.bench_feed:bench_feed",
    "export": "rockets.cli.export:export",
    "import": "rockets.cli.import_file:import_file",
    "backup": "rockets.cli.backup:backup",
    "rebuild": "rockets.cli.rebuild:rebuild",
}


class LazyGroup(click.Group):
    """A group that finds its commands in the table above and imports them one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command, in the order of the table, then those defined in this module."""
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; None for a name that is no command."""
        target = COMMANDS.get(cmd_name)
        return super().get_command(ctx, cmd_name) if target is None else _load(target)


def _load(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command), f"{target} is not a command"
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rockets", message="rockets %(version)s")
def main() -> None:
    """Rocket telemetry over HTTP: durable, exactly once, in message-number order."""


@main.command()
def version() -> None:
    """Print the version and exit."""
    # Imported here: importlib.metadata is slow, and only this command needs it.
    from importlib.metadata import version as installed_version

    click.echo(f"rockets {installed_version('rockets')}")


@main.command("help")
@click.pass_context
def show_help(ctx: click.Context) -> None:
    """Show this message and exit."""
    click.echo(ctx.find_root().get_help())
