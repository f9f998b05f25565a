"""`medseg preprocess`, `segment` and `postprocess`: one sub-command a method, with flags made from its description."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.reading import reading as reading_options
from medseg.cli.terminal import Terminal, device_option, overwrite_option, speaking
from medseg.method import catalog
from medseg.method.method import Method, Stage
from medseg.method.schema import ParameterInfo, parameters_of

if TYPE_CHECKING:
    from medseg.core.label_map import LabelMap
    from medseg.core.volume import Volume
    from medseg.io.options import ReadOptions


class MethodGroup(click.Group):
    """The methods of one stage; each becomes a command when it is asked for."""

    def __init__(self, *args: Any, stage: Stage, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stage = stage

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the methods of this stage."""
        return [method.name for method in catalog.methods(self.stage)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Return the command made from a method's description; raises UnknownMethodError."""
        return _command(catalog.find(cmd_name, self.stage))


@click.group(cls=MethodGroup, stage=Stage.PREPROCESS)
def preprocess() -> None:
    """Apply one preprocessing method to a scan: medseg preprocess METHOD IN -o OUT [flags]."""


@click.group(cls=MethodGroup, stage=Stage.SEGMENT)
def segment() -> None:
    """Segment a scan with one method: medseg segment METHOD IN -o OUT [flags]."""


@click.group(cls=MethodGroup, stage=Stage.POSTPROCESS)
def postprocess() -> None:
    """Apply one postprocessing method to a segmentation: medseg postprocess METHOD SEG -o OUT [flags]."""


def _command(method: Method) -> click.Command:
    infos = parameters_of(method.params)

    def call(**given: Any) -> None:
        values = {info.name: _value(info, given[info.name]) for info in infos if _is_given(given[info.name])}
        settings = {name: value for name, value in given.items() if name not in {info.name for info in infos}}
        _run(method, values, **settings)

    command: Any = reading_options()(speaking(call))
    # a postprocess method may look at the scan; the others read it
    own = [image_option] if method.stage is Stage.POSTPROCESS else [channel_option, entropy_option] if method.several else []
    shared = [device_option, overwrite_option, *own]
    for decorate in (*shared, *reversed([_option(info) for info in infos])):
        command = decorate(command)
    command = click.option("-o", "--output", type=click.Path(), required=True, help="Where the result goes; the suffix is the format.")(
        command
    )
    command = click.argument("input", type=click.Path())(command)
    return click.command(name=method.name, help=_help(method), short_help=method.summary)(command)


def _help(method: Method) -> str:
    """Return the docstring up to its example, with its source."""
    text = method.description.split(">>>")[0].rstrip()
    return f"{text}\n\nSource: {method.reference}" if method.reference else text


def _option(info: ParameterInfo) -> Any:
    """Return the flag of one parameter: `seeds` becomes a repeatable --seed, a boolean --name/--no-name."""
    name = info.name.replace("_", "-")
    flags = [f"--{name}"]
    if info.is_list and name.endswith("s"):
        flags.insert(0, f"--{name[:-1]}")
    limits = ", ".join(f"{_SIGNS[key]} {value:g}" for key, value in info.limits.items())
    parts = [info.description, f"[{info.unit}]" if info.unit else "", f"({limits})" if limits else ""]
    default = "" if info.required or info.default is None else f" Default: {info.default}."
    text = " ".join(part for part in parts if part) + ("; repeatable." if info.is_list else ".") + default
    if info.kind == "boolean":
        return click.option(f"--{name}/--no-{name}", info.name, default=None, help=text)
    kind: Any = click.Choice([str(choice) for choice in info.choices]) if info.choices else _TYPES[info.kind]
    metavar = "R,A,S" if info.kind == "point" else None
    return click.option(
        *flags, info.name, type=kind, multiple=info.is_list, default=None, required=info.required, help=text, metavar=metavar
    )


channel_option = click.option(
    "--channel",
    "channels",
    type=click.Path(),
    multiple=True,
    help="A further scan on the same grid (T2, FLAIR), in the model's order.",
)
entropy_option = click.option("--entropy", type=click.Path(), help="Also write the entropy of the network's passes, in nats, to this file.")
image_option = click.option("--image", type=click.Path(), help="The scan, for methods that look at intensities.")
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_TYPES = {"number": click.FLOAT, "integer": click.INT, "text": click.STRING, "point": click.STRING, "label-map": click.Path()}


def _is_given(value: Any) -> bool:
    return value is not None and value != ()


def _value(info: ParameterInfo, given: Any) -> Any:
    """Turn what the flag holds into what the parameter model takes."""
    if info.is_list:
        return [_single(info, item) for item in given]
    return _single(info, given)


def _single(info: ParameterInfo, given: Any) -> Any:
    if info.kind == "label-map":
        from medseg.io.read import read_label_map

        return read_label_map(given)
    if info.choices:
        return next(choice for choice in info.choices if str(choice) == given)
    return given


def _run(
    method: Method,
    values: dict[str, Any],
    *,
    input: str,
    output: str,
    overwrite: bool,
    device: str,
    terminal: Terminal,
    reading: ReadOptions,
    image: str | None = None,
    channels: tuple[str, ...] = (),
    entropy: str | None = None,
) -> None:
    from medseg.core.label_map import LabelMap
    from medseg.core.volume import Volume
    from medseg.io.file_report import contrast_findings
    from medseg.io.read import read_label_map, read_with
    from medseg.io.report import choices_of
    from medseg.io.write import check_output, write
    from medseg.preprocessing.resample import fit_to

    params = method.build(values)
    check_output(output, label_map=method.stage is not Stage.PREPROCESS, overwrite=overwrite)
    if entropy:
        check_output(entropy, label_map=False, overwrite=overwrite)
    subject: Volume | LabelMap = read_label_map(input) if method.stage is Stage.POSTPROCESS else read_with(input, reading)
    scan = subject if isinstance(subject, Volume) else read_with(image, reading) if image else None
    if scan is not None:
        scan = replace(scan, findings=(*scan.findings, *contrast_findings(scan)))
    if scan is not None and isinstance(subject, LabelMap):
        subject = fit_to(subject, scan.geometry)
    given = (subject, *(read_with(path, reading) for path in channels)) if channels else subject
    with terminal.settings(device) as settings:
        result = method(given, params, settings=settings, volume=scan)
    path = write(result, output, source=scan, overwrite=overwrite)
    if entropy:
        write(_entropy_of(result), entropy, source=scan, overwrite=overwrite)
    document: dict[str, Any] = {"schema": f"medseg.{method.stage.value}/1", "method": method.name, "output": str(path)}
    document |= {"reading": choices_of(reading)}
    findings = tuple({(one.code, one.message): one for one in (*(scan.findings if scan else ()), *result.findings)}.values())
    document |= {"findings": [finding.to_dict() for finding in findings]}
    terminal.findings(findings)
    if isinstance(result, LabelMap):
        from medseg.measurement.measure import measure
        from medseg.reporting.table import rich_table

        table = measure(result, scan)
        terminal.show(rich_table(table, result.segments))
        document |= {"segments": table.to_dict()["segments"]}
        if result.model_spread is not None:
            spread = result.model_spread
            document |= {"model_spread": {"passes": spread.passes, "volumes_ml": dict(spread.volumes_ml)}}
    else:
        document |= result.geometry.to_dict()
    terminal.show(f"wrote {path}")
    terminal.document(document)


def _entropy_of(result: LabelMap) -> Volume:
    """Return the entropy of a network's passes as a scan; raises ParameterError where there is none."""
    from medseg.core.errors import ParameterError
    from medseg.core.volume import Volume

    spread = result.model_spread
    if spread is None or spread.entropy is None:
        raise ParameterError("--entropy needs several passes of a network: give --uncertainty mirror, folds or dropout")
    return Volume(spread.entropy, result.geometry, unit="nat")
