"""What `pyproject.toml` cannot say: with ``ENRICHER_COMPILE=1`` a wheel has its option mathematics compiled.

mypyc makes C of the modules below as they stand; it needs a C compiler. Without the variable, and in an
editable install, everything stays pure Python.
"""

import os
import sys

from setuptools import setup

# Volatilities, Greeks, rounding. All that a chain goes through would be many times the C, and functions that
# `enricher.analytics.by_strike` wraps have to stay as they are: mypyc says that keywords are positional only.
MODULES = "black76 normalised_black rounding"

asked = os.environ.get("ENRICHER_COMPILE") == "1"
# pip first asks what a build needs and what it will be called, when mypyc may not be there yet.
builds = bool({"bdist_wheel", "build_ext"} & set(sys.argv))
extensions = []
if asked and builds:
    from mypyc.build import mypycify

    paths = [f"enricher/analytics/{name}.py" for name in MODULES.split()]
    extensions = mypycify(["--config-file=setup.cfg", *paths], opt_level="2", debug_level="0")

setup(ext_modules=extensions, setup_requires=["mypy>=1.13", "msgspec>=0.19"] if asked else [])
