"""Memory that loading leaves behind. Libraries, a tokenizer's files and databases are parsed into far more than they
end as, and glibc keeps what was freed: a third of a fresh worker.
"""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Return to the system what was freed. Does nothing where the C library is not glibc."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
