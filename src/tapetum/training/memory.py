"""Freed memory kept for the next step, where the C library allows it to be asked for.

torch frees and allocates every large tensor anew in each step. glibc gives blocks of more than 32 MB back to the kernel at once
and gets them again page by page, each page filled with zeros: on the notes' LeNet that is half of the training time.
"""

import ctypes
import platform

# From glibc's malloc.h: blocks that may be mapped apart from the heap; free heap that is kept; heap that is added at once.
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_TOP_PAD = -4, -1, -2
_KEEP_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc keep what is freed, for this whole process, until it ends; whether that was done.

    Costs about a tenth more memory at the peak, and the process holds its peak. Nothing is done on other C libraries. Results
    do not change.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all((mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES), mallopt(_M_TOP_PAD, 64 * 1024**2)))
