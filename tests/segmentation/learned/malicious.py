"""Models made to harm: each is written by a function, nothing is fetched.

`CASES` maps a name to a function `(folder, canary) → source` and to a word the refusal must hold; a case that ran would
create the file `canary`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import malicious_archives as archives
import malicious_bundles as bundles
import malicious_checkpoints as checkpoints

CASES: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "pickle: os.system": (checkpoints.os_system, "posix.system"),
    "pickle: eval": (checkpoints.builtins_eval, "eval"),
    "pickle: exec, deep within": (checkpoints.builtins_exec_deep, "exec"),
    "pickle: reduce within reduce": (checkpoints.reduce_within_reduce, "eval"),
    "pickle: torch.load within": (checkpoints.torch_load_again, "torch.serialization.load"),
    "pickle: a whole module": (checkpoints.whole_module, "torch.nn.modules.conv.Conv3d"),
    "pickle: allocates": (checkpoints.allocates_on_load, "bytearray"),
    "pickle: bare, as a checkpoint": (checkpoints.bare_pickle_as_checkpoint, "posix.system"),
    "pickle: bare, alone": (checkpoints.bare_pickle_file, "posix.system"),
    "pickle: of torch before 1.6": (checkpoints.legacy_checkpoint, "posix.system"),
    "pickle: protocol 4": (checkpoints.opcodes_of_protocol_4, "cannot be read as plain weights|never writes"),
    "pickle: called safetensors": (checkpoints.pickle_called_safetensors, "pickle|safetensors"),
    "sizes: values shorter than claimed": (checkpoints.values_shorter_than_claimed, "claims"),
    "sizes: tensor larger than its values": (checkpoints.tensor_larger_than_storage, "larger than its values"),
    "sizes: compressed records": (checkpoints.compressed_checkpoint, "compressed"),
    "sizes: a record twice": (checkpoints.record_twice, "two members of one name"),
    "sizes: truncated checkpoint": (checkpoints.truncated_checkpoint, "cut short"),
    "sizes: a bit flipped": (checkpoints.flipped_bit, "damaged"),
    "sizes: truncated safetensors": (checkpoints.truncated_safetensors, "cut short|safetensors"),
    "sizes: huge safetensors header": (checkpoints.huge_safetensors_header, "header|safetensors"),
    "fit: shapes": (checkpoints.wrong_shapes, "shape"),
    "fit: keys": (checkpoints.wrong_keys, "missing"),
    "fit: NaN weights": (checkpoints.nan_weights, "not finite"),
    "fit: SHA-256": (checkpoints.hash_mismatch, "SHA-256"),
    "fit: huge JSON": (checkpoints.huge_json, "larger than"),
    "fit: nested JSON": (checkpoints.nested_json, "not valid JSON"),
    "fit: label count, nnU-Net": (checkpoints.label_count_mismatch, "output channels"),
    "fit: label count, medseg": (checkpoints.label_count_mismatch_medseg, "out_channels"),
    "fit: weights outside": (checkpoints.weights_outside_the_folder, "plain name"),
    "fit: unknown network": (checkpoints.network_of_the_model, "names network"),
    "fit: unknown layer": (checkpoints.layer_of_the_model, "os.system"),
    "fit: giant network": (checkpoints.giant_network, "features|parameters|arguments"),
    "zip: slip": (archives.zip_slip, "nothing was installed"),
    "zip: slip of many levels": (archives.zip_slip_enough_levels, "nothing was installed"),
    "zip: absolute": (archives.zip_absolute, "points outside"),
    "zip: backslashes": (archives.zip_backslashes, "points outside"),
    "zip: symlink": (archives.zip_symlink, "link or device"),
    "zip: bomb": (archives.zip_bomb, "no model does that"),
    "zip: lies about sizes": (archives.zip_that_lies_about_size, "damaged|no model does that"),
    "zip: many files": (archives.zip_many_files, "files"),
    "zip: duplicate": (archives.zip_duplicate, "twice"),
    "zip: case collision": (archives.zip_case_collision, "twice"),
    "zip: file as folder": (archives.zip_file_as_folder, "twice"),
    "zip: truncated": (archives.zip_truncated, "cut short"),
    "tar: slip": (archives.tar_slip, "nothing was installed"),
    "tar: symlink": (archives.tar_symlink, "link"),
    "tar: hard link": (archives.tar_hard_link, "link"),
    "tar: device": (archives.tar_device, "device"),
    "tar: bomb": (archives.tar_bomb, "no model does that"),
    "tar: header bomb": (archives.tar_header_bomb, "header"),
    "tar: truncated": (archives.tar_truncated, "cut short"),
    "folder: link": (archives.folder_with_a_link, "link"),
    "folder: pipe": (archives.folder_with_a_pipe, "no ordinary file"),
    "folder: empty": (archives.empty_folder, "no model"),
    "folder: two models": (archives.two_models, "2 models"),
    "archive: none": (archives.no_archive, "no .zip"),
    "bundle: import": (bundles.bundle_import, "SlidingWindowInferer|__import__|overlap"),
    "bundle: network expression": (bundles.bundle_network_expression, "network_def"),
    "bundle: attribute walk": (bundles.bundle_attribute_walk, "__class__|roi_size"),
    "bundle: target": (bundles.bundle_target, "os.system"),
    "bundle: own code": (bundles.bundle_own_code, "scripts.network.Evil"),
    "bundle: endless arithmetic": (bundles.bundle_endless_arithmetic, "roi_size|\\*\\*|Pow"),
    "bundle: YAML tag": (bundles.bundle_yaml_tag, "inference.yaml|python"),
    "bundle: pickle": (bundles.bundle_pickle, "posix.system"),
    "bundle: TorchScript that writes": (bundles.bundle_torchscript, "TorchScript|save|operator"),
}
