"""Datasets: the table, where their files come from, and their token ids.

A dataset block of a suite goes in: a registered name, the user's own text, or the synthetic source. `prepare` finds or
downloads the files, verifies them and writes token ids once into a folder of the cache; `load` maps them into memory as
a `Corpus`. `facts` and `identify` need no data. `status` lists, verifies and imports.
Importing this package loads neither numpy nor torch, httpx or pydantic.
"""

from __future__ import annotations

from harness.data.config import KINDS, DatasetConfig, MarkovSource, Registered, parse
from harness.data.download.locate import cache_folder, network_is_off, search_roots
from harness.data.folder import load, read_manifest
from harness.data.preparation import facts, find_prepared, find_split, find_text, identify, prepare, prepare_again
from harness.data.registry import DATASETS, Dataset, KnownText, get_dataset

__all__ = [
    "DATASETS", "KINDS", "Dataset", "DatasetConfig", "KnownText", "MarkovSource", "Registered", "cache_folder",
    "copies", "download", "facts", "find_prepared", "find_split", "find_text", "get_dataset", "identify",
    "load", "network_is_off", "parse", "prepare", "prepare_again", "read_manifest", "search_roots", "status",
]  # fmt: skip
