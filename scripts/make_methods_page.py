"""Write docs/methods.md from the descriptions of the methods: `python scripts/make_methods_page.py`."""

from __future__ import annotations

from pathlib import Path

import yaml

from medseg.method import catalog
from medseg.method.method import Method
from medseg.method.schema import ParameterInfo, parameters_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXAMPLES = DOCS.parent / "medseg" / "method_examples"
PAGE = DOCS / "methods.md"
STAGES = {
    "preprocess": ("Preprocessing", "medseg preprocess NAME IN -o OUT"),
    "segment": ("Segmentation", "medseg segment NAME IN -o OUT"),
    "postprocess": ("Postprocessing", "medseg postprocess NAME SEG -o OUT"),
}
HEAD = """# Methods

Made by `scripts/make_methods_page.py` from the descriptions every interface reads: Python (`medseg.segment(volume, "otsu")`), the
command line, pipelines. `medseg methods NAME` prints the same. The pictures show a method on a small phantom, before and after, with the
parameters under them (`medseg/method_examples`, drawn by `scripts/make_method_pictures.py`); yellow crosses are points that were given.
"""


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for stage, (title, usage) in STAGES.items():
        parts.append(f"## {title}\n\n`{usage}`\n")
        parts += [_section(method) for method in catalog.methods(stage)]
    return "\n".join(parts)


def _section(method: Method) -> str:
    text = method.description.split(">>>")[0].strip()
    lines = [f"### {method.name}", "", text, "", *_picture(method.name), f"Source: {method.reference}", ""]
    infos = parameters_of(method.params)
    if infos:
        lines += ["| parameter | meaning | unit | limits | default |", "|---|---|---|---|---|", *map(_row, infos), ""]
    return "\n".join(lines)


def _picture(name: str) -> list[str]:
    """Return the lines that show the example of a method, where it was drawn."""
    example, picture = EXAMPLES / f"{name}.yaml", DOCS / "pictures" / "methods" / f"{name}.png"
    if not (example.exists() and picture.exists()):
        return []
    content = yaml.safe_load(example.read_text(encoding="utf-8"))
    given = yaml.safe_dump(content.get("parameters") or {}, default_flow_style=True, sort_keys=False, width=1000).strip()
    shown = f" (`{given}`)" if given != "{}" else ""
    return [f"![{name}: before and after]({picture.relative_to(DOCS).as_posix()})", "", f"{content['caption'].strip()}{shown}", ""]


def _row(info: ParameterInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = ", ".join(f"{signs[key]} {value:g}" for key, value in info.limits.items()) or ", ".join(map(str, info.choices))
    default = "required" if info.required else "–" if info.default is None else f"`{info.default}`"
    return f"| `{info.name}` | {info.description}{' (list)' if info.is_list else ''} | {info.unit} | {limits} | {default} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
