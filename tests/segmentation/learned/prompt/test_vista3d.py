"""VISTA3D's prompts, against MONAI's own inferers with the same random weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.errors import IncompatibleModelError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.settings import RunSettings
from medseg.segmentation.learned.engine.stream import run
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.prompt.description import VistaArguments
from medseg.segmentation.learned.prompt.loading import find_prompt_model
from medseg.segmentation.learned.prompt.method import PromptParams, prompt
from medseg.segmentation.learned.trained import Request

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("einops")  # MONAI's VISTA3D needs it
vista3d_network = pytest.importorskip("medseg.segmentation.learned.prompt.vista3d_network")
vista3d_points = pytest.importorskip("medseg.segmentation.learned.prompt.vista3d_points")

PATCH = (16, 16, 16)
CPU = RunSettings("cpu")


def _image(shape: tuple[int, int, int], seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.random((1, 1, 5, 5, 5), np.float32))
    return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")


def _quietly(call: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():  # MONAI warns about its own indexing
        warnings.simplefilter("ignore")
        return call()


@pytest.mark.parametrize("shape", [(20, 37, 24), (16, 16, 16), (11, 25, 19)])
def test_class_prompts_give_the_labels_of_monai_s_sliding_window(vista: Any, shape: tuple[int, int, int]) -> None:
    """Blending features and applying the class product once gives the labels of blending every class's scores."""
    from monai.inferers import sliding_window_inference

    numbers, image = [3, 1, 7, 23, 90], _image(shape)
    with torch.inference_mode():
        scores = _quietly(
            lambda: sliding_window_inference(
                image, PATCH, 1, vista, overlap=0.3, mode="gaussian", transpose=True, class_vector=torch.tensor(numbers)[:, None]
            )
        )[0]
    best = scores.argmax(0)
    expected = np.where((scores > 0).any(0), np.array(numbers)[best], 0)
    labels = np.zeros(shape, np.uint8)
    sink = vista3d_network.ClassSink(vista3d_network.class_embeddings(vista, numbers), numbers, labels)
    windows = Windows.monai(PATCH, overlap=0.3, gaussian=True)
    run([vista3d_network.ClassFeatures(vista)], image[0].numpy(), windows, sink, Request(device="cpu"))
    assert len(np.unique(expected)) >= 3
    assert np.count_nonzero(labels != expected) <= 1e-4 * labels.size


@pytest.mark.parametrize(
    ("points", "kinds", "number", "by_class", "with_previous"),
    [
        ([(8, 20, 10)], [1], None, False, False),
        ([(2, 3, 4), (17, 33, 20), (9, 9, 9)], [1, 1, 0], None, False, False),
        ([(10, 18, 11), (4, 4, 4)], [1, 0], 3, True, False),
        ([(10, 18, 11), (4, 30, 4)], [3, 2], 23, True, False),
        ([(10, 18, 11)], [1], 140, False, False),
        ([(10, 18, 11), (3, 12, 7)], [1, 0], None, False, True),
    ],
)
def test_point_prompts_give_the_scores_of_monai_s_inferer(
    vista: Any, points: list[tuple[int, int, int]], kinds: list[int], number: int | None, by_class: bool, with_previous: bool
) -> None:
    """Windows about points, with and without a class, classes never trained on, special classes and a previous mask."""
    from monai.apps.vista3d.inferer import point_based_window_inferer
    from monai.data import MetaTensor

    image = _image((20, 37, 24), 1)
    previous = (_image((20, 37, 24), 2)[0, 0] - 0.5) * 20 if with_previous else None
    chosen = None if number is None else torch.tensor([[number]])
    with torch.inference_mode():
        expected = _quietly(
            lambda: point_based_window_inferer(
                MetaTensor(image),
                PATCH,
                vista,
                torch.tensor(points, dtype=torch.float32)[None],
                torch.tensor(kinds)[None],
                class_vector=chosen if by_class else None,
                prompt_class=chosen,
                prev_mask=None if previous is None else previous[None, None],
                transpose=True,
            )
        )[0, 0]
    asked = vista3d_points.PointPrompt(np.array(points, float), np.array(kinds), number, by_class)
    found = vista3d_points.point_scores(vista, image, asked, PATCH, previous)
    expected = np.nan_to_num(np.asarray(expected), nan=vista3d_points.NOTHING)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-4)


def test_an_image_smaller_than_a_window_is_padded_as_monai_pads_it(vista: Any) -> None:
    """The points move with the padding."""
    from monai.apps.vista3d.inferer import point_based_window_inferer
    from monai.data import MetaTensor

    image = _image((9, 21, 12), 3)
    with torch.inference_mode():
        expected = _quietly(
            lambda: point_based_window_inferer(
                MetaTensor(image), PATCH, vista, torch.tensor([[[4.0, 10.0, 6.0]]]), torch.tensor([[1]]), transpose=True
            )
        )[0, 0]
    asked = vista3d_points.PointPrompt(np.array([[4.0, 10.0, 6.0]]), np.array([1]))
    found = vista3d_points.point_scores(vista, image, asked, PATCH)
    np.testing.assert_allclose(found.numpy(), np.nan_to_num(np.asarray(expected), nan=vista3d_points.NOTHING), atol=2e-4)


def test_the_network_has_the_names_and_shapes_of_vista3d132() -> None:
    """Weights of the published network fit strictly: same tensors, 218 million parameters, no memory needed."""
    from monai.networks.nets import vista3d132

    with torch.device("meta"):
        expected = vista3d132().state_dict()
    built = vista3d_network.build_vista(VistaArguments())
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in expected.items()}
    assert sum(p.numel() for p in built.parameters()) > 200e6


def _scan() -> Volume:
    random = np.random.default_rng(3)
    coarse = torch.from_numpy(random.uniform(-900, 900, (1, 1, 5, 5, 5)).astype(np.float32))
    array = torch.nn.functional.interpolate(coarse, size=(24, 22, 14), mode="trilinear")[0, 0].numpy()
    affine = np.array([[0, -2.0, 0, 30], [2.0, 0, 0, -10], [0, 0, -3.0, 5], [0, 0, 0, 1]])
    return Volume(array.astype(np.int16), Geometry((24, 22, 14), affine), "CT", "HU")


def test_structures_by_name_and_by_number(vista_folder: Callable[..., Path]) -> None:
    """Names in any spelling and numbers name the same class; the label map holds the class numbers."""
    folder, scan = vista_folder(), _scan()
    by_name = prompt(scan, PromptParams(model=str(folder), structures=["Liver", "lung_tumor"]), settings=CPU)
    by_number = prompt(scan, PromptParams(model=str(folder), structures=["1", "23"]), settings=CPU)
    assert [(s.number, s.label) for s in by_name.segments] == [(1, "liver"), (23, "lung tumor")]
    assert np.array_equal(by_name.array, by_number.array)
    assert by_name.array.any()
    assert by_name.geometry.matches(scan.geometry)


def test_points_with_and_without_a_structure(vista_folder: Callable[..., Path]) -> None:
    """A point gives one segment; with a structure it is that class."""
    folder, scan = vista_folder(), _scan()
    centre = tuple(scan.geometry.index_to_world((12, 11, 7)).tolist())
    free = prompt(scan, PromptParams(model=str(folder), points=[centre], label="thing"), settings=CPU)
    named = prompt(scan, PromptParams(model=str(folder), points=[centre], structures=["spleen"]), settings=CPU)
    mask = LabelMap((scan.array > 0).astype(np.uint8), scan.geometry, (Segment(1, "before"),))
    refined = prompt(scan, PromptParams(model=str(folder), points=[centre], previous=mask), settings=CPU)
    assert [s.label for s in free.segments] == ["thing"]
    assert [(s.number, s.label) for s in named.segments] == [(3, "spleen")]
    assert np.mean((refined.array > 0) == (mask.array > 0)) > 0.5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"structures": ["livre"]}, "did you mean liver"),
        ({"structures": ["77"]}, "knows no structure"),
        ({"box_corners": [(0, 0, 0), (10, 10, 5)], "structures": ["liver"]}, "no boxes"),
        ({"points": [(10, 0, 0)], "structures": ["liver", "spleen"]}, "one structure"),
    ],
)
def test_prompts_that_vista_does_not_take_are_refused(vista_folder: Callable[..., Path], given: dict[str, Any], words: str) -> None:
    """Each with a message that says what to do."""
    with pytest.raises(ParameterError, match=words):
        prompt(_scan(), PromptParams(model=str(vista_folder()), **given), settings=CPU)


def test_an_mr_is_refused(vista_folder: Callable[..., Path]) -> None:
    """VISTA3D is a CT model."""
    scan = _scan()
    with pytest.raises(IncompatibleModelError, match="trained on CT"):
        prompt(Volume(scan.array, scan.geometry, "MR"), PromptParams(model=str(vista_folder()), structures=["liver"]), settings=CPU)


def test_weights_that_do_not_fit_are_named(vista_folder: Callable[..., Path]) -> None:
    """The first differing tensors stand in the message."""
    folder = vista_folder(network={"name": "vista3d132", "arguments": {"encoder_embed_dim": 16, "blocks_down": [1, 1, 1]}})
    with pytest.raises(IncompatibleModelError, match="has shape"):
        find_prompt_model(folder).network()


@pytest.mark.slow
def test_the_published_network_gives_the_same_labels_as_monai_s_sliding_window() -> None:
    """All 117 classes of the bundle's "everything", with random weights of the 218 million parameters, on small patches."""
    from monai.inferers import sliding_window_inference
    from monai.networks.nets import vista3d132

    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = vista3d132().eval().requires_grad_(False)
    left_out = {2, 16, 18, 20, 21, 23, 24, 25, 26, 27, 128, 129, 130, 131, 132}
    numbers, image, patch = sorted(set(range(1, 133)) - left_out), _image((32, 32, 44), 4), (32, 32, 32)
    with torch.inference_mode():
        scores = _quietly(
            lambda: sliding_window_inference(
                image, patch, 1, network, overlap=0.3, mode="gaussian", transpose=True, class_vector=torch.tensor(numbers)[:, None]
            )
        )[0]
    expected = np.where((scores > 0).any(0), np.array(numbers)[scores.argmax(0)], 0)
    labels = np.zeros(image.shape[2:], np.uint8)
    sink = vista3d_network.ClassSink(vista3d_network.class_embeddings(network, numbers), numbers, labels)
    run([vista3d_network.ClassFeatures(network)], image[0].numpy(), Windows.monai(patch, overlap=0.3, gaussian=True), sink, Request("cpu"))
    assert len(np.unique(expected)) > 10
    assert np.count_nonzero(labels != expected) <= 1e-4 * labels.size
