import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from tapetum.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def work():
    for _ in range(3):
        torch.zeros(20_000_000).add_(1)
for _ in range(5):  # until the heap has found its shape
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode):
    done = subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_large_tensors_no_longer_come_page_by_page():
    # 80 MB a tensor: 20,000 pages of 4 KB where each is mapped anew (fewer where the kernel uses larger ones).
    assert faults("keep") < 100
    assert faults("plain") > 10 * max(1, faults("keep"))


def test_other_c_libraries_are_left_alone(monkeypatch):
    from tapetum.training import memory

    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("the C library was touched"))
    assert memory.keep_freed_memory() is False
