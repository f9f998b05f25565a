"""`medseg methods`: what there is, and what each method takes."""

from __future__ import annotations

import click

from medseg.cli.terminal import Terminal, speaking


@click.command()
@click.argument("name", required=False)
@speaking
def methods(name: str | None, terminal: Terminal) -> None:
    """List every method by stage, or describe NAME with its parameters, units and source."""
    from rich.table import Table

    from medseg.method import catalog
    from medseg.method.schema import SIGNS, describe

    found = [catalog.find(name)] if name else catalog.methods()
    if name:
        terminal.show(f"[bold]{found[0].name}[/] ({found[0].stage.value})", found[0].description.split(">>>")[0].rstrip())
        terminal.show(f"Source: {found[0].reference}")
        table = Table("parameter", "meaning", "unit", "limits", "default", header_style="bold")
        for entry in describe(found[0])["parameters"]:
            limits = ", ".join(f"{SIGNS[key]} {value:g}" for key, value in entry["limits"].items()) or " | ".join(
                map(str, entry["choices"])
            )
            default = "required" if entry["required"] else "–" if entry["default"] in (None, []) else str(entry["default"])
            table.add_row(entry["name"], entry["description"], entry["unit"], limits, default)
    else:
        table = Table("method", "stage", "what it does", header_style="bold")
        for method in found:
            table.add_row(method.name, method.stage.value, method.summary)
    terminal.show(table)
    terminal.document({"schema": "medseg.methods/1", "methods": [describe(method) for method in found]})
