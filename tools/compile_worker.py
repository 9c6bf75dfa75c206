"""One run of mypyc and the C compiler, in a process of its own: `compile_worker.py FOLDER SOURCE…`, from the root.

Leaves the modules in FOLDER/lib, as `import` wants them.
"""

from __future__ import annotations

import os
import sys

folder, *sources = sys.argv[1:]
sys.argv = ["setup.py", "build_ext", "--build-lib", f"{folder}/lib", "--build-temp", f"{folder}/temp"]
os.environ.setdefault("CFLAGS", "-g0")

from mypyc.build import mypycify  # noqa: E402
from setuptools import setup  # noqa: E402

modules = mypycify(
    ["--config-file=pyproject.toml", *sources],
    opt_level="3", debug_level="0", group_name="sluice", target_dir=f"{folder}/c", multi_file=False,
)  # fmt: skip
setup(name="sluice-compiled", ext_modules=modules, packages=[], py_modules=[])
