"""``localful-ws demo``: a daemon, three devices and every event, to look at."""

import click


@click.command()
@click.option("--keep", is_flag=True, help="keep the daemon running at the end, until Ctrl-C")
def demo(*, keep: bool) -> None:
    """Show a real daemon at work, with made-up secrets and three devices of two users."""
    from localful_ws.demo import run  # noqa: PLC0415 - the other commands need none of it

    run(keep=keep)
