"""The folders of the packages, and the optional C library behind ctypes. All other packaging is in pyproject.toml."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import Extension, find_packages, setup

KERNELS = Path("kernels/lm_kernels")
sources = runpy.run_path(str(KERNELS / "compiled" / "sources.py"))

# Import name -> folder. A person's own project often has folders called models, kernels, suites or results.
folders = {
    "harness": "harness",
    "lm_models": "models/lm_models",
    "lm_kernels": "kernels/lm_kernels",
    "lm_suites": "suites",
    "lm_results": "results",
}
inner = [f"{name}.{package}" for name, folder in folders.items() for package in find_packages(folder)]

setup(
    packages=[*folders, *inner],
    package_dir=folders,
    ext_modules=[
        Extension(
            "lm_kernels.compiled._library",
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
    ],
)
