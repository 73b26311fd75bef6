import pytest
import torch

from tapetum import device


@pytest.mark.parametrize(
    ("found", "mixed"), [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False), ({}, False)]
)
def test_half_precision_is_used_where_the_processor_is_made_for_it(monkeypatch, found, mixed):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    cpu = torch.device("cpu")
    assert device.mixed_precision(cpu, "auto") is mixed
    assert device.mixed_precision(cpu, "float32") is False
    assert device.mixed_precision(cpu, "mixed") is True
    assert device.mixed_precision(torch.device("cuda"), "auto") is True
    assert device.mixed_precision(torch.device("mps"), "auto") is False


def test_an_older_torch_that_does_not_tell_computes_in_full(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert device.mixed_precision(torch.device("cpu"), "auto") is False


@pytest.mark.parametrize(("count", "said"), [(1, "cpu (1 thread, "), (2, "cpu (2 threads, ")])
def test_a_processor_is_told_with_its_threads(monkeypatch, count, said):
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    assert device.describe(torch.device("cpu")).startswith(said)
