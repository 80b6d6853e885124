"""``localful-ws demo``: a daemon, three devices and every event, to look at."""

import click


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="where the page is; 0 for a free port  [default: 42104, or a free one]",
)
@click.option("--open", "open_browser", is_flag=True, help="open the page in a browser")
@click.option("--terminal", is_flag=True, help="show it here, without a browser")
@click.option("--keep", is_flag=True, help="with --terminal: keep the daemon at the end, until Ctrl-C")
def demo(*, port: int | None, open_browser: bool, terminal: bool, keep: bool) -> None:
    """Show a real daemon at work, with made-up secrets and three devices of two users.

    It serves a page in which the devices run, and prints its address. Ctrl-C ends it.
    """
    from localful_ws.demo import run_page, run_terminal  # noqa: PLC0415 - other commands need none of it

    if terminal and (open_browser or port is not None):
        raise click.UsageError("--port and --open are for the page, which --terminal does without.")
    if keep and not terminal:
        raise click.UsageError("--keep is for --terminal; the page stays until Ctrl-C anyway.")
    if terminal:
        run_terminal(keep=keep)
    else:
        run_page(port=port, open_browser=open_browser)
