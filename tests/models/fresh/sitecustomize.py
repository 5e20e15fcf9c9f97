"""For processes that pages of the docs start, by PYTHONPATH: torchvision beside a torch it is not built for."""

import sys


class _BeforeTorchvision:
    """A finder of modules that finds none, but has torchvision made importable before it is looked for."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            from vision import make_importable

            make_importable()


if "pytest" not in sys.modules:  # which imports whatever it finds
    sys.meta_path.insert(0, _BeforeTorchvision())
