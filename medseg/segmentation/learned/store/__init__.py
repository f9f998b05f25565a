"""The safe store of models: find them, unpack and check what others made, read weights without running anything."""

from medseg.segmentation.learned.store.checkpoint import load_checkpoint
from medseg.segmentation.learned.store.find import (
    DESCRIPTION_FILE,
    WEIGHTS_SUFFIX,
    ModelFolder,
    builtin_folder,
    find_model,
    list_models,
    locate_model,
    parse_description,
    read_folder,
)
from medseg.segmentation.learned.store.installed import default_store, find_installed, list_installed

__all__ = [
    "DESCRIPTION_FILE",
    "WEIGHTS_SUFFIX",
    "ModelFolder",
    "builtin_folder",
    "default_store",
    "find_installed",
    "find_model",
    "list_installed",
    "list_models",
    "load_checkpoint",
    "locate_model",
    "parse_description",
    "read_folder",
]
