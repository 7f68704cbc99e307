"""SGLang's CPU kernels are not on PyPI: here every name can be imported, and none can be called."""

__path__ = []


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def absent(*args, **kwargs):
        raise NotImplementedError(f"sgl_kernel.{name} is not on PyPI")

    absent.__name__ = name
    return absent
