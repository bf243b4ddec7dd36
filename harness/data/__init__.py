"""Datasets: the table, where their files come from, and their token ids. Imports neither numpy nor httpx."""

from __future__ import annotations

from harness.data.config import DatasetConfig, MarkovSource, OwnText, OwnWords, Registered
from harness.data.description import DatasetFacts, facts, identify
from harness.data.download.locate import cache_folder, search_roots
from harness.data.folder import load, read_manifest
from harness.data.importing import import_file
from harness.data.listing import list_rows, where
from harness.data.preparation import prepare
from harness.data.progress import download_bars, download_lines
from harness.data.registry import ALIASES, DATASETS, KINDS
from harness.data.sources.single_split import find_split
from harness.data.spec import SpecError, parse
from harness.data.verification import verify

__all__ = [
    "ALIASES",
    "DATASETS",
    "KINDS",
    "DatasetConfig",
    "DatasetFacts",
    "MarkovSource",
    "OwnText",
    "OwnWords",
    "Registered",
    "SpecError",
    "cache_folder",
    "download_bars",
    "download_lines",
    "facts",
    "find_split",
    "identify",
    "import_file",
    "list_rows",
    "load",
    "parse",
    "prepare",
    "read_manifest",
    "search_roots",
    "verify",
    "where",
]
