"""`serow serve`."""

import click

from serow import settings


class _Serve(click.Command):
    """Lists the variables that the server reads below its options."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of settings, as it is."""
        with formatter.section("Environment (OLLAMA_… works in place of SEROW_…)"):
            formatter.write_dl([(f"SEROW_{variable.name}", variable.help) for variable in settings.VARIABLES])


@click.command(cls=_Serve)
def serve() -> None:
    """Start the server and stay in front; Ctrl-C ends it."""
    from serow.server import app

    app.serve(settings.load())
