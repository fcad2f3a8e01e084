"""What `pyproject.toml` cannot say: with ``ENRICHER_COMPILE=1`` a wheel has its option mathematics compiled.

mypyc makes C of the modules below as they stand; it needs a C compiler. Without the variable, and in an
editable install, everything stays pure Python.
"""

import os
import sys

from setuptools import setup

# What computes with every leg of a chain. Not here: what gains little, and functions that
# `enricher.analytics.by_strike` wraps, for mypyc drops their annotations and docstrings.
MODULES = (
    "black76 chain_prices gamma_flip normalised_black oi_walls price_analysis prices quote_arbitrage rounding"
)

asked = os.environ.get("ENRICHER_COMPILE") == "1"
# pip first asks what a build needs and what it will be called, when mypyc may not be there yet.
builds = bool({"bdist_wheel", "build_ext"} & set(sys.argv))
extensions = []
if asked and builds:
    from mypyc.build import mypycify

    paths = [f"enricher/analytics/{name}.py" for name in MODULES.split()]
    extensions = mypycify(["--config-file=setup.cfg", *paths], opt_level="2", debug_level="0")

setup(ext_modules=extensions, setup_requires=["mypy>=1.13", "msgspec>=0.19"] if asked else [])
