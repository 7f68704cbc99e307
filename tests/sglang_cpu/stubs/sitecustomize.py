"""For the SGLang processes of the tests: PyPI's torchvision is linked against CUDA, so that its operators are absent on
a CPU.
"""

import contextlib

with contextlib.suppress(ImportError):
    import torch.library

    _register = torch.library.register_fake

    def _tolerant(op, *args, **kwargs):
        if isinstance(op, str) and op.startswith("torchvision::"):
            return lambda function: function
        return _register(op, *args, **kwargs)

    torch.library.register_fake = _tolerant
