"""The one compiled part: plain C behind ctypes, optional. Everything else is said in pyproject.toml."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import Extension, setup

ROOM = Path("kernels/fo_pool")
sources = runpy.run_path(str(ROOM / "sources.py"))

setup(
    ext_modules=[
        Extension(
            "kernels.fo_pool._native",
            [str(ROOM / "csrc" / "fo_pool.c")],
            depends=sorted(map(str, (ROOM / "csrc").glob("*.h"))),
            define_macros=[("FO_POOL_SOURCES", f'"{sources["digest"]()}"')],
            # Nothing here changes a value: no errno and no trap is looked at, and sums keep their order.
            extra_compile_args=[
                "-O3",
                "-std=gnu11",
                "-fvisibility=hidden",
                "-fno-math-errno",
                "-fno-trapping-math",
                "-ffp-contract=fast",
            ],
            optional=True,
        )
    ]
)
