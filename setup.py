"""The one compiled part: plain C behind ctypes, optional. Everything else is said in pyproject.toml."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("kernels")
sources = runpy.run_path(str(KERNELS / "compiled" / "sources.py"))

setup(
    ext_modules=[
        Extension(
            "kernels.compiled._library",
            sorted(map(str, KERNELS.glob("*/csrc/*.c"))),
            depends=sorted(map(str, KERNELS.glob("*/csrc/*.h"))),
            include_dirs=[str(KERNELS / "compiled" / "csrc")],
            define_macros=[("KERNELS_SOURCES", f'"{sources["digest"]()}"')],
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
