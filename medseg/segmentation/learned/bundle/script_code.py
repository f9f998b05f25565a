"""Reads the program in a TorchScript archive without running it, and says what in it is not plain network arithmetic.

TorchScript is no Python: it can call only torch's own operators and the functions in its archive. But some of torch's
operators read and write files (`aten::from_file`, `aten::save`) and custom classes run code when built. So the code is
parsed (Python's grammar covers it) and every call must be on the list below; pickles may name nothing but tensors,
lists and the archive's own classes.
"""

from __future__ import annotations

import ast
import pickletools
import re
from collections.abc import Iterator

OPERATORS = frozenset(
    """
    add add_ sub sub_ rsub mul mul_ div div_ neg abs pow exp log log1p sqrt rsqrt reciprocal floor ceil round trunc clamp clamp_
    clamp_min clamp_max minimum maximum floor_divide floordiv remainder fmod sign square erf sin cos tanh tanh_ sigmoid sigmoid_
    relu relu_ relu6 leaky_relu leaky_relu_ elu elu_ selu prelu gelu silu silu_ mish hardtanh hardtanh_ hardswish hardswish_
    hardsigmoid softplus softmax log_softmax logsumexp glu celu threshold
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d _convolution linear addmm matmul bmm baddbmm einsum
    batch_norm instance_norm group_norm layer_norm native_layer_norm dropout dropout_ feature_dropout feature_dropout_
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d scaled_dot_product_attention
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d
    upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d pixel_shuffle pixel_unshuffle
    cat stack chunk split split_with_sizes tensor_split unbind size dim numel len reshape view permute transpose transpose_ t
    contiguous flatten unflatten squeeze squeeze_ unsqueeze unsqueeze_ expand expand_as repeat repeat_interleave roll flip
    slice select index index_select gather narrow movedim swapaxes masked_fill masked_fill_ where pad constant_pad_nd
    reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    sum mean prod var std amin amax min max argmax argmin all any norm cumsum topk sort nonzero
    zeros ones full empty arange linspace zeros_like ones_like full_like empty_like tensor eye tril triu meshgrid
    to type_as clone detach detach_ float half double int long bool copy_ fill_ zero_ item
    eq ne lt le gt ge logical_and logical_or logical_not __and__ __or__ __xor__ __not__ __is__ __isnot__ __contains__
    __getitem__ __range_length __derive_index
    append extend insert pop reverse clear list dict keys values items _set_item Delete warn format
    is_floating_point is_complex isnan isinf isfinite
    """.split()  # noqa: SIM905 - a page of names reads better so
)
PRIMITIVES = frozenset(
    [
        "RaiseException",
        "NumToTensor",
        "min",
        "max",
        "abs",
        "device",
        "dtype",
        "shape",
        "layout",
        "is_cuda",
        "requires_grad",
        "data",
        "unchecked_cast",
        "unchecked_unwrap_optional",
        "isinstance",
        "rangelist",
        "type",
        "itemsize",
    ]
)
_BUILTINS = frozenset(
    [
        "getattr",
        "int",
        "float",
        "bool",
        "str",
        "complex",
        "range",
        "len",
        "annotate",
        "unchecked_cast",
        "uninitialized",
        "sorted",
        "isinstance",
        "print",
        "min",
        "max",
        "abs",
        "ord",
        "chr",
    ]
)
_TYPES = frozenset(
    [
        "Tensor",
        "int",
        "float",
        "bool",
        "str",
        "complex",
        "number",
        "Number",
        "NoneType",
        "None",
        "Device",
        "Any",
        "List",
        "Dict",
        "Tuple",
        "Optional",
        "Final",
        "Union",
        "Scalar",
        "Module",
        "NamedTuple",
        "Interface",
        "Enum",
        "Generator",
        "Storage",
        "t",
        "Stream",
        "AnyType",
        "AnyTuple",
        "QScheme",
        "Layout",
        "Function",
    ]
)
_NODES: tuple[type[ast.AST], ...] = (
    ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Assign, ast.AnnAssign, ast.Expr, ast.Return, ast.Pass,
    ast.If, ast.For, ast.While, ast.Break, ast.Continue, ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple,
    ast.List, ast.Dict, ast.Call, ast.keyword, ast.UnaryOp, ast.USub, ast.Not, ast.IfExp, ast.BoolOp, ast.And, ast.Or, ast.Load,
    ast.Store, ast.Import, ast.alias, ast.Assert,
)  # fmt: skip
_RESERVED = frozenset(("torch", "ops", "__torch__", "CONSTANTS"))
_CLASSES = "__torch__.torch.classes"
_PICKLED = re.compile(
    r"^(__torch__\.[\w.]+ \w+|torch\._utils _rebuild_tensor(_v2|_v3)?|collections OrderedDict|torch \w+Storage|torch\.storage \w+Storage"
    r"|torch\.jit\._pickle (build_\w+list|restore_type_tag)|torch device|torch\._utils _rebuild_parameter)$"
)


def refused_code(text: str, name: str) -> Iterator[str]:
    """Yield what a file of TorchScript code does beyond network arithmetic."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield f"{name}: cannot be read as TorchScript"
        return
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    declared = {
        id(entry.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for entry in node.body
        if isinstance(entry, ast.AnnAssign) and entry.value is None
    }
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        where = f"{name}, line {getattr(node, 'lineno', '?')}"
        if not isinstance(node, _NODES):
            yield f"{where}: {type(node).__name__}"
        elif isinstance(node, ast.Import):
            if not all(one.name.startswith("__torch__") and not one.name.startswith(_CLASSES) for one in node.names):
                yield f"{where}: import of {', '.join(one.name for one in node.names)[:100]}"
        elif isinstance(node, ast.Attribute) and id(node) not in inner:
            reason = _refused_chain(node, called=id(node) in called)
            if reason:
                yield f"{where}: {reason}"
        elif isinstance(node, ast.Name) and id(node) not in inner | declared:
            if isinstance(node.ctx, ast.Store) and node.id in _RESERVED | _BUILTINS:
                yield f"{where}: another meaning for {node.id}"
            elif node.id in _RESERVED:
                yield f"{where}: the bare name {node.id}"
            elif id(node) in called and not (node.id in _BUILTINS or _is_local(node.id)):
                yield f"{where}: a call of {node.id[:80]}"


def _is_local(name: str) -> bool:
    """Names the serialiser gives to values (`_0`, `_12`, `ops0`, `submod`), which hold the archive's own functions."""
    return re.fullmatch(r"_\d+|ops\d+|[a-z]\w*\d+", name) is not None


def _refused_chain(node: ast.Attribute, *, called: bool) -> str:
    text = ast.unparse(node)
    root = text.split(".", 1)[0]
    if root == "__torch__":
        return f"the custom class {text[:120]}" if text.startswith(_CLASSES) else ""
    if root == "torch":
        short = text.removeprefix("torch.")
        return "" if called and short in OPERATORS else f"the operator {text[:120]}"
    if root == "ops":
        return "" if called and text.startswith("ops.prim.") and text[9:] in PRIMITIVES else f"the operator {text[:120]}"
    if any(part.startswith("__") and part not in ("__len__", "__contains__", "__getitem__") for part in text.split(".")):
        return f"the attribute {text[:120]}"
    return ""


def refused_pickle(content: bytes, name: str) -> Iterator[str]:
    """Yield what a pickle of an archive names beyond tensors, lists and the archive's own classes."""
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL":
                if not _PICKLED.match(str(argument)) or str(argument).startswith(_CLASSES):
                    yield f"{name}: the name {str(argument)[:120]}"
            elif opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"):
                yield f"{name}: the pickle operation {opcode.name}"
    except Exception:  # noqa: BLE001 - pickletools raises many kinds for broken pickles
        yield f"{name}: cannot be read as a pickle"
