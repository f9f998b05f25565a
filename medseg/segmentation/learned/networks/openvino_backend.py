"""A network on the CPU through OpenVINO: an optional package whose kernels are about twice as fast as torch's there."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import torch
from torch import nn

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.dependencies import import_openvino
from medseg.segmentation.learned.networks.unet import EncoderDecoder

Shape = tuple[int, ...]
_MOST_SHAPES = 4  # of patches that stay compiled: each takes as much memory as the weights, or more
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoNetwork:
    """Called like the network it was made of: (N, C, K, J, I) on the CPU in, float32 logits out.

    Compiled for each patch size it meets; the last few stay compiled for the next scan. In float32 the logits differ from
    torch's by rounding only; in bfloat16 as much as torch's own bfloat16. Nothing is written to disk and nothing is sent
    anywhere: OpenVINO's converter, which reports its use, is not called.
    """

    def __init__(self, network: nn.Module, precision: Literal["float32", "bfloat16"] = "float32", threads: int | None = None) -> None:
        """Raises MissingDependencyError where openvino is not installed; `threads` None means torch's number."""
        self._openvino = import_openvino()
        self._network = network
        self._settings = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        self._compiled: dict[Shape, Any] = {}

    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch; raises IncompatibleModelError where OpenVINO cannot read the network."""
        shape = tuple(patches.shape[1:])
        compiled = self._compiled.pop(shape, None) or self._compile(shape)
        while len(self._compiled) >= _MOST_SHAPES:
            del self._compiled[next(iter(self._compiled))]
        self._compiled[shape] = compiled  # behind those that were used longer ago
        outputs = compiled([patches.float().contiguous().numpy()])
        return torch.from_numpy(outputs[0])

    def _compile(self, shape: Shape) -> Any:
        manager, decoders = import_openvino("frontend"), import_openvino("frontend.pytorch.ts_decoder")
        try:
            with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
                warnings.simplefilter("ignore")  # the tracer remarks on every constant it meets
                traced = torch.jit.trace(self._network, torch.zeros(1, *_example(self._network, shape)), check_trace=False)
                front_end = manager.FrontEndManager().load_by_framework("pytorch")
                decoder = decoders.TorchScriptPythonDecoder(traced)  # OpenVINO keeps no reference to it
                model = front_end.convert(front_end.load(decoder))
                model.reshape(self._openvino.PartialShape([-1, *shape]))
                return self._openvino.Core().compile_model(model, "CPU", self._settings)
        except Exception as err:  # each stage of the conversion has its own errors
            raise IncompatibleModelError(f"OpenVINO cannot run {type(self._network).__name__}: leave the OpenVINO backend out") from err


def _example(network: nn.Module, shape: Shape) -> Shape:
    """A small patch where the network is known to do the same at every size, else the patch itself."""
    if not isinstance(network, EncoderDecoder):
        return shape
    steps = [layer.stride for layer in network.decoder.transpconvs]
    return (shape[0], *(2 * math.prod(int(stride[axis]) for stride in steps) for axis in range(3)))
