"""`medseg preprocess`, `segment` and `postprocess`: one sub-command a method, with flags made from its description."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.reading import reading as reading_options
from medseg.cli.terminal import Terminal, overwrite_option, speaking
from medseg.core.errors import ParameterError
from medseg.method import catalog
from medseg.method.method import Method, Stage
from medseg.method.schema import SIGNS, ParameterInfo, parameters_of

if TYPE_CHECKING:
    from pathlib import Path

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
        settings = {name: value for name, value in given.items() if name not in {info.name for info in infos}}
        _check_outputs(method, infos, given)
        values = {info.name: _value(info, given[info.name]) for info in infos if _is_given(given[info.name])}
        _run(method, values, **settings)

    command: Any = reading_options(takes_all="makes each a channel" if method.several else "")(speaking(call))
    # a postprocess method may look at the scan; the others read it
    own = [image_option] if method.stage is Stage.POSTPROCESS else [_channel_option(method)] if method.several else []
    shared = [_device_option(method), overwrite_option, *own, *([entropy_option] if _has_passes(method) else [])]
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
    limits = ", ".join(f"{SIGNS[key]} {value:g}" for key, value in info.limits.items())
    parts = [info.description, f"[{info.unit}]" if info.unit else "", f"({limits})" if limits else ""]
    default = "" if info.required or info.default is None or info.default == [] else f" Default: {info.default}."
    text = " ".join(part for part in parts if part) + ("; repeatable." if info.is_list else ".") + default
    if info.kind == "boolean":
        return click.option(f"--{name}/--no-{name}", info.name, default=None, help=text)
    kind: Any = click.Choice([str(choice) for choice in info.choices]) if info.choices else _TYPES[info.kind]
    metavar = "R,A,S" if info.kind == "point" else None
    return click.option(
        *flags, info.name, type=kind, multiple=info.is_list, default=None, required=info.required, help=text, metavar=metavar
    )


def _channel_option(method: Method) -> Any:
    order = ", in the model's order" if _is_network(method) else ""
    text = f"A further scan on the same grid (T2, FLAIR){order}; repeatable."
    return click.option("--channel", "channels", type=click.Path(), multiple=True, help=text)


def _device_option(method: Method) -> Any:
    """Return --device: every command takes it, those that run no network do not show it."""
    text = "Where the network runs." if _is_network(method) else "Where networks run; what runs on the processor alone ignores it."
    hidden = "settings" not in method.accepts
    return click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:n]", help=text, hidden=hidden)


def _is_network(method: Method) -> bool:
    return "model" in method.params.model_fields


def _has_passes(method: Method) -> bool:
    """Whether the method can tell the spread of several passes of a network."""
    return "uncertainty" in method.params.model_fields


entropy_option = click.option("--entropy", type=click.Path(), help="Also write the entropy of the network's passes, in nats, to this file.")
image_option = click.option("--image", type=click.Path(), help="The scan, for methods that look at intensities.")
_NO_PASSES = "--entropy needs several passes of a network: give --uncertainty mirror, folds or dropout"
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


def _check_outputs(method: Method, infos: list[ParameterInfo], given: dict[str, Any]) -> None:
    """Raise now, before anything is read, what would be wrong with the outputs; a segmentation may replace itself."""
    from medseg.cli.output_checks import refuse_inputs
    from medseg.io.write import check_output

    outputs = [given["output"], *([given["entropy"]] if given.get("entropy") else [])]
    check_output(outputs[0], label_map=method.stage is not Stage.PREPROCESS, overwrite=given["overwrite"])
    for further in outputs[1:]:
        check_output(further, label_map=False, overwrite=given["overwrite"])
        refuse_inputs(further, {"-o": outputs[:1]})
    inputs = {} if method.stage is Stage.POSTPROCESS else {"the scan": [given["input"]]}
    inputs |= {"--image": [given["image"]] if given.get("image") else [], "--channel": list(given.get("channels") or ())}
    for info in infos:
        if info.kind == "label-map" and _is_given(given[info.name]):
            value = given[info.name]
            inputs["--" + info.name.replace("_", "-")] = list(value) if info.is_list else [value]
    for output in outputs:
        refuse_inputs(output, inputs)


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
    every_volume: bool = False,
) -> None:
    from medseg.core.volume import Volume
    from medseg.io.file_report import contrast_findings
    from medseg.io.read import read_label_map, read_volumes, read_with
    from medseg.io.write import check_source, write
    from medseg.preprocessing.resample import fit_to

    params = method.build(values)
    if entropy and getattr(params, "uncertainty", "none") == "none":
        raise ParameterError(_NO_PASSES)
    # the colours, or the volumes, of one file are channels where the method takes several
    first, *others = read_volumes(input, reading) if every_volume else [None]
    subject: Volume | LabelMap = first or (read_label_map(input) if method.stage is Stage.POSTPROCESS else read_with(input, reading))
    scan = subject if isinstance(subject, Volume) else read_with(image, reading) if image else None
    check_source(output, scan)
    if scan is not None:
        scan = replace(scan, findings=(*scan.findings, *contrast_findings(scan)))
    if scan is not None and not isinstance(subject, Volume):
        subject = fit_to(subject, scan.geometry)
    further = [*others, *(read_with(path, reading) for path in channels)]
    given = (subject, *further) if further else subject
    with terminal.settings(device) as settings:
        result = method(given, params, settings=settings, volume=scan)
    spread = _entropy_of(result) if entropy else None  # before the first write: its fault leaves nothing behind
    path = write(result, output, source=scan, overwrite=overwrite)
    if entropy and spread is not None:
        write(spread, entropy, source=scan, overwrite=overwrite)
    _tell(method, result, scan, path, reading, terminal)


def _tell(method: Method, result: Volume | LabelMap, scan: Volume | None, path: Path, reading: ReadOptions, terminal: Terminal) -> None:
    """Say what was found and written, to people and as the JSON document."""
    from medseg.core.label_map import LabelMap
    from medseg.io.report import choices_of

    document: dict[str, Any] = {"schema": f"medseg.{method.stage.value}/1", "method": method.name, "output": str(path)}
    document |= {"reading": choices_of(reading)}
    findings = tuple({(one.code, one.message): one for one in (*(scan.findings if scan else ()), *result.findings)}.values())
    document |= {"findings": [finding.to_dict() for finding in findings]}
    terminal.findings(findings)
    if isinstance(result, LabelMap):
        from medseg.measurement.measure import measure
        from medseg.reporting.table import rich_table

        table = measure(result, scan)
        terminal.show(rich_table(table, result.segments, more_in=f"{path.name} (their volumes: --json)"))
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
    from medseg.core.volume import Volume

    spread = result.model_spread
    if spread is None or spread.entropy is None:
        raise ParameterError(_NO_PASSES)
    return Volume(spread.entropy, result.geometry, unit="nat")
