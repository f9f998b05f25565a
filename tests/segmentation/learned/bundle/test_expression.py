"""Expressions of bundles: what is read as data, and that everything else is refused and never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medseg.segmentation.learned.bundle.expression import ChannelPriority, DataType, Device, GreaterThan, RefusedError, read_expression

VALUES: dict[str, Any] = {"spacing": [1.5, 1.5, 2.0], "high": True, "root": ".", "net::channels": [4, 8], "n": 3}


def read(text: str) -> Any:
    return read_expression(text, VALUES.__getitem__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1.5, 1.5, 1.5] if @high else [3.0, 3.0, 3.0]", [1.5, 1.5, 1.5]),
        ("@root + '/models/' + 'model.pt'", "./models/model.pt"),
        ("os.path.join(@root, 'models', 'model.pt')", "./models/model.pt"),
        ("@net#channels[1:]", [8]),
        ("@net::channels[-1] * 2 + 1", 17),
        ("[@n] * 3", [3, 3, 3]),
        ("list(range(@n))", [0, 1, 2]),
        ("len(@spacing) - 7 // 2 + 7 % 4", 3),
        ("tuple([1, 2])", (1, 2)),
        ("round(max(@spacing) / 3, 2)", 0.67),
        ("not @high or @n > 2", True),
        ("1 < @n <= 3", True),
        ("'a' in ['a', 'b']", True),
        ("{'a': -@n}['a']", -3),
        ("None", None),
        ("torch.float32", DataType("float32")),
        ("np.uint8", DataType("uint8")),
        ("torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')", Device()),
        ("@spacing.to(torch.device('cpu'))", [1.5, 1.5, 2.0]),
        ("copy.deepcopy(@spacing)", [1.5, 1.5, 2.0]),
        ("lambda x: x > -900", GreaterThan(-900.0)),
        ("lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))", ChannelPriority(((2, 4), (0, 1)))),
        ("monai.utils.CommonKeys.PRED", "pred"),
    ],
)
def test_data_is_read(text: str, expected: Any) -> None:
    """Arithmetic, choices, lists, references and names of types have the value Python gives them."""
    assert read(text) == expected
    assert type(read(text)) is type(expected)


CANARY = "canary_of_the_expression_tests"
ATTACKS = [
    f"__import__('os').system('touch {CANARY}')",
    f"open('{CANARY}', 'w')",
    f'exec(\'open("{CANARY}", "w")\')',
    f'eval(\'open("{CANARY}", "w")\')',
    f"(lambda: open('{CANARY}', 'w'))()",
    f"[open('{CANARY}', 'w') for x in [1]]",
    f"[c for c in ().__class__.__base__.__subclasses__()][0]('touch {CANARY}')",
    f"torch.device(open('{CANARY}', 'w'))",
    f"torch.load('{CANARY}')",
    f"np.save('{CANARY}', [1])",
    f"torch.hub.load('{CANARY}', 'x')",
    f"os.path.join('a', open('{CANARY}', 'w').name)",
    f"@spacing.__class__.__base__.__subclasses__()[0]('{CANARY}')",
    f"getattr(torch, 'save')(1, '{CANARY}')",
    f"setattr(torch.backends, 'x', open('{CANARY}', 'w'))",
    f"'{{0.__class__}}'.format(open('{CANARY}', 'w'))",
    f"f\"{{open('{CANARY}', 'w')}}\"",
    f"(x := open('{CANARY}', 'w'))",
    f"import os; os.system('touch {CANARY}')",
    f"from os import system; system('touch {CANARY}')",
    f"monai.bundle.run('{CANARY}')",
    f"@spacing.to(open('{CANARY}', 'w'))",
    f"sorted([1], key=lambda x: open('{CANARY}', 'w'))",
    f"lambda x: open('{CANARY}', 'w') > 0",
    f"list(map(open, ['{CANARY}']))",
    f"str(open('{CANARY}', 'w'))",
    f"lambda x: torch.where(x[[0]] > 0, 1, open('{CANARY}', 'w'))",
    f"lambda x: torch.where(x[[open('{CANARY}', 'w')]] > 0, 1, 0)",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_code_is_refused_and_not_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an expression would run is refused with its text, and no file appears."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RefusedError, match=r"\$"):
        read(text)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9",
        "[0] * 1000000000",
        "'a' * 1000000000",
        "range(1000000000)",
        "1 << 999999",
        "'%1000000000d' % 1",
        "round(1, -1000000000)",
        "int(1e300)",
        "9223372036854775807 * 9223372036854775807",
        "sum([[[0] * 9999] * 9999], [])",
        "1" * 4000,
        "-" * 600 + "1",
        "(" * 1000 + ")" * 1000,
        "1 / 0",
        "@spacing[7]",
        "@missing",
        "x",
        "",
        "'@spacing'",
        "b'bytes'",
        "...",
        "@spacing * 2.5",
        "{'a': 1}['a':]",
    ],
)
def test_what_is_too_large_or_wrong_is_refused(text: str) -> None:
    """Sizes are limited before anything is computed, and a mistake is a refusal, not a crash."""
    with pytest.raises(RefusedError):
        read(text)
