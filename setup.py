"""The optional C library behind ctypes. All other packaging is configured in pyproject.toml."""

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
            # None of these flags changes a value: the code reads neither errno nor traps, and sums keep their order.
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
