"""`medseg review`: look at every case of a batch in the browser; every decision is saved at once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.terminal import Terminal, speaking

if TYPE_CHECKING:
    from medseg.batch.cohort.review_server import ReviewServer


@click.command()
@click.argument("output", type=click.Path(), metavar="OUT")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port on this machine; 0 takes a free one.")
@click.option("--no-browser", is_flag=True, help="Only say the address.")
@speaking
def review(output: str, port: int, no_browser: bool, terminal: Terminal) -> None:
    """Review the cases of a batch: the contact sheet in the browser, decisions saved in OUT/review.json.

    Only this machine can reach it (127.0.0.1), and only at the address that is said here, which holds a secret. Several people can
    review one folder at the same time, each with a `medseg review` of their own. Ctrl-C ends it; `medseg report OUT` then
    applies the decisions to the tables.

    \b
    medseg review out/
    medseg review out/ --no-browser --port 8060     (then: ssh -L 8060:127.0.0.1:8060 HOST)
    """
    from medseg.batch.cohort.review_server import ReviewServer
    from medseg.batch.records.layout import Layout

    with ReviewServer(Layout(Path(output)), port) as server:
        if terminal.as_json:
            terminal.document({"schema": "medseg.review-server/1", "address": server.address})
        else:
            click.echo(server.address)  # also with --quiet: nothing can be done without it
        terminal.show("Ctrl-C ends the review; every decision is saved as it is made.")
        with tempfile.TemporaryDirectory(prefix="medseg-review-") as folder:
            if not no_browser:
                _open(server.address, Path(folder) / "review.html")
            _serve(server)
        from rich.markup import escape

        terminal.show(
            f"{server.saved:,} decision{'' if server.saved == 1 else 's'} saved in review.json; to apply: medseg report {escape(output)}"
        )


def _open(address: str, page: Path) -> None:
    """Open the browser through a page that only this user can read: everybody on the machine sees the arguments of a program."""
    import webbrowser

    page.write_text(
        f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><a href="{address}">Review</a>\n', encoding="utf-8"
    )
    webbrowser.open(page.as_uri())


def _serve(server: ReviewServer) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    try:
        server.serve_forever(poll_interval=0.2)
    except (KeyboardInterrupt, SystemExit):
        return
