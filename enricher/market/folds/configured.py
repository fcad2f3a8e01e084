"""The folds that `market.folds` switches on: shipped ones by name, a program's own by ``module:Class``."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from enricher.errors import WrongSetting
from enricher.market.folds.fold import Fold
from enricher.system import code_of

SHIPPED: Final = MappingProxyType({"session": "enricher.market.folds.session:SessionRange"})


def fold_of(name: str) -> type[Fold]:
    """The class of folds of this name. Raises `ConfigError`."""
    right = f"{', '.join(SHIPPED)}, or module:Class, a subclass of enricher.market.folds.Fold"
    code = SHIPPED.get(name, name)
    if ":" not in code:
        raise WrongSetting("market.folds", name, right)
    try:
        fold = code_of(code)
    except (Exception, SystemExit) as error:
        why = f"{right} ({type(error).__name__}: {error})"
        raise WrongSetting("market.folds", name, why) from error
    if not (isinstance(fold, type) and issubclass(fold, Fold)):
        raise WrongSetting("market.folds", name, f"{right}; this is {fold!r}")
    return fold
