"""Settings of frameworks in the tests' process, applied at the first import of one: tests without one start sooner."""

import os
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

#: XLA's older way to compile what is fused: a third of the time for tiny programs
_COMPILED_FAST = "--xla_cpu_use_fusion_emitters=false"


def _set_jax():
    import jax

    jax.config.update("jax_disable_most_optimizations", True)  # thousands of tiny programs: compile them fast
    jax.config.update("jax_enable_x64", True)  # so that JAX holds float64 and complex128 as NumPy and torch do


def _set_torch():
    import torch
    from models.vision import make_importable

    torch.set_num_threads(1)
    make_importable()
    # torch's own warnings, once, where it first differentiates in forward mode
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))


class _AfterImport:
    """A finder of modules that calls a function once a module is imported, without any warning of its own."""

    def __init__(self, functions: dict[str, Callable[[], None]]):
        self.functions = functions

    def find_spec(self, name, path=None, target=None):
        """The spec that the other finders have, with the function after its module."""
        if name not in self.functions:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, found), None)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                execute(module)
                self.functions[name]()

        spec.loader.exec_module = exec_module
        return spec


def compile_fast():
    """Have JAX compile tiny programs fast, in this process and those that it starts, unless XLA_FLAGS says how."""
    flags = os.environ.get("XLA_FLAGS", "")
    name = _COMPILED_FAST.partition("=")[0]
    if name not in flags and _jaxlib() == ["0", "10"]:  # XLA ends a process that has a flag unknown to it
        os.environ["XLA_FLAGS"] = f"{flags} {_COMPILED_FAST}".strip()


def _jaxlib():
    """The first two parts of jaxlib's version."""
    try:
        return version("jaxlib").split(".")[:2]
    except PackageNotFoundError:
        return []


def settle():
    """Apply the settings of torch and JAX: now where one is imported, else when it is."""
    settings = {"torch": _set_torch, "jax": _set_jax}
    for name in [name for name in settings if name in sys.modules]:
        settings.pop(name)()
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport(settings))
