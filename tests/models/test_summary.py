"""The two summaries that the notes print, row by row and to the digit; multiply-adds against torch's own counter."""

import dataclasses
import json

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tapetum import models
from tapetum.models.summary import format_summary, summarize

LENET_ROWS = [
    ("Conv2d-1", (-1, 16, 220, 220), 1_216, "(224-5+2*0)/1+1 = 220"),
    ("ReLU-2", (-1, 16, 220, 220), 0, ""),
    ("MaxPool2d-3", (-1, 16, 110, 110), 0, "220/2 = 110"),
    ("Conv2d-4", (-1, 32, 106, 106), 12_832, "(110-5+2*0)/1+1 = 106"),
    ("ReLU-5", (-1, 32, 106, 106), 0, ""),
    ("MaxPool2d-6", (-1, 32, 53, 53), 0, "106/2 = 53"),
    ("Linear-7", (-1, 512), 46_023_168, "89888*512+512 = 46,023,168"),
    ("Linear-8", (-1, 2), 1_026, "512*2+2 = 1,026"),
    ("Softmax-9", (-1, 2), 0, ""),
]
ALEXNET_ROWS = [
    ("Conv2d-1", (-1, 64, 63, 63), 23_296, "(256-11+2*2)/4+1 = 63.25 -> 63, 1 px dropped"),
    ("ReLU-2", (-1, 64, 63, 63), 0, ""),
    ("MaxPool2d-3", (-1, 64, 31, 31), 0, "(63-3+2*0)/2+1 = 31"),
    ("Conv2d-4", (-1, 192, 31, 31), 307_392, "(31-5+2*2)/1+1 = 31"),
    ("ReLU-5", (-1, 192, 31, 31), 0, ""),
    ("MaxPool2d-6", (-1, 192, 15, 15), 0, "(31-3+2*0)/2+1 = 15"),
    ("Conv2d-7", (-1, 384, 15, 15), 663_936, "(15-3+2*1)/1+1 = 15"),
    ("ReLU-8", (-1, 384, 15, 15), 0, ""),
    ("Conv2d-9", (-1, 256, 15, 15), 884_992, "(15-3+2*1)/1+1 = 15"),
    ("ReLU-10", (-1, 256, 15, 15), 0, ""),
    ("Conv2d-11", (-1, 256, 15, 15), 590_080, "(15-3+2*1)/1+1 = 15"),
    ("ReLU-12", (-1, 256, 15, 15), 0, ""),
    ("MaxPool2d-13", (-1, 256, 7, 7), 0, "(15-3+2*0)/2+1 = 7"),
    ("AdaptiveAvgPool2d-14", (-1, 256, 6, 6), 0, "7 -> 6, fields of 2"),
    ("Dropout-15", (-1, 9216), 0, ""),
    ("Linear-16", (-1, 4096), 37_752_832, "9216*4096+4096 = 37,752,832"),
    ("ReLU-17", (-1, 4096), 0, ""),
    ("Dropout-18", (-1, 4096), 0, ""),
    ("Linear-19", (-1, 512), 2_097_664, "4096*512+512 = 2,097,664"),
    ("ReLU-20", (-1, 512), 0, ""),
    ("Linear-21", (-1, 2), 1_026, "512*2+2 = 1,026"),
]
PRINTED = [
    ("lenet-textbook", 224, LENET_ROWS, "46,038,242", "0.57", "19.47", "175.62", "195.67"),
    ("alexnet-textbook", 256, ALEXNET_ROWS, "42,321,218", "0.75", "10.90", "161.44", "173.10"),
]


@pytest.mark.parametrize(("name", "size", "rows"), [case[:3] for case in PRINTED])
def test_the_rows_that_the_notes_print(name, size, rows):
    found = summarize(models.build_on_meta(name, 2), 3, size)
    assert [(row.name, row.output, row.params) for row in found.rows] == [row[:3] for row in rows]
    assert [row.formula.removesuffix(" parameters") for row in found.rows] == [row[3] for row in rows]


@pytest.mark.parametrize(("name", "size", "rows", "params", "input_mb", "passes_mb", "params_mb", "total_mb"), PRINTED)
def test_the_page_that_the_notes_print(name, size, rows, params, input_mb, passes_mb, params_mb, total_mb):
    lines = format_summary(summarize(models.build_on_meta(name, 2), 3, size)).splitlines()
    for line in (
        f"Total params: {params}",
        f"Trainable params: {params}",
        "Non-trainable params: 0",
        f"Input size (MB): {input_mb}",
        f"Forward/backward pass size (MB): {passes_mb}",
        f"Params size (MB): {params_mb}",
        f"Estimated Total Size (MB): {total_mb}",
    ):
        assert line in lines
    table = [line for line in lines if line.startswith(tuple(row[0] for row in rows))]
    assert len(table) == len(rows)
    for line, (layer, output, count, formula) in zip(table, rows, strict=True):
        assert line.startswith(f"{layer} ")
        assert str(list(output)) in line
        assert f" {count:,}" in line
        assert formula in line


def test_rows_know_what_the_network_calls_its_layers():
    rows = summarize(models.build_on_meta("lenet-table", 2), 1, 32).rows
    assert [row.layer for row in rows][:4] == ["conv1", "relu1", "pool1", "conv2"]
    assert rows[-1].layer == "fc3"


# torch would count the kernels that LeNet-5's connection table leaves out; that net is counted by hand in test_lenet1998.py.
@pytest.mark.parametrize("name", [name for name in models.names() if not name.startswith("lenet5")])
def test_torch_counts_the_same_multiply_adds(name):
    entry = models.entry(name)
    network = models.build_on_meta(name, 10).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, entry.channels, entry.size, entry.size, device="meta"))
    found = summarize(network, entry.channels, entry.size)
    assert 2 * found.multiply_adds == counter.get_total_flops()
    assert found.multiply_adds == sum(row.multiply_adds for row in found.rows)


def test_multiply_adds_of_the_table_by_hand():
    rows = summarize(models.build_on_meta("lenet-table", 2), 1, 32).rows
    by_hand = [6 * 28 * 28 * 25, 16 * 10 * 10 * 6 * 25, 400 * 120, 120 * 84, 84 * 2]
    assert [row.multiply_adds for row in rows if row.multiply_adds] == by_hand


@pytest.mark.parametrize(
    ("layer", "size", "formula", "multiply_adds"),
    [
        (nn.MaxPool2d(2), 63, "63/2 = 31.5 -> 31, 1 px dropped", 0),
        (nn.MaxPool2d(2, ceil_mode=True), 63, "63/2 = 31.5 -> 32", 0),
        (nn.AvgPool2d(4), 64, "64/4 = 16", 0),
        (nn.MaxPool2d(3, stride=2), 63, "(63-3+2*0)/2+1 = 31", 0),
        (nn.MaxPool2d(3, stride=3, padding=1), 9, "(9-3+2*1)/3+1 = 3.66667 -> 3, 2 px dropped", 0),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1), 10, "(10-3+2*1)/2+1 = 5.5 -> 5, 1 px dropped", 8 * 25 * 4 * 9),
        (nn.Conv2d(4, 8, 3, groups=2), 10, "(10-3+2*0)/1+1 = 8", 8 * 64 * 2 * 9),
        (nn.Conv2d(4, 8, 4, padding="same"), 10, "(10-4+2*1.5)/1+1 = 10", 8 * 100 * 4 * 16),
        (nn.Conv2d(4, 8, 3, dilation=4), 10, "(10-9+2*0)/1+1 = 2", 8 * 4 * 4 * 9),
        (nn.AdaptiveAvgPool2d(6), 7, "7 -> 6, fields of 2", 0),
        (nn.MaxPool2d((3, 2), stride=(2, 1)), 6, "height (6-3+2*0)/2+1 = 2.5 -> 2, 1 px dropped; width (6-2+2*0)/1+1 = 5", 0),
        (nn.ReLU(), 7, "", 0),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_formulas(layer, size, formula, multiply_adds):
    (row,) = summarize(layer, 4, size).rows
    assert (row.formula, row.multiply_adds) == (formula, multiply_adds)


def test_a_summary_changes_nothing():
    torch.manual_seed(0)
    network = models.build("compact", 2, 32)
    network[-2].eval()  # a state that is neither all train nor all eval
    network[-1].weight.requires_grad_(False)
    modes = {name: layer.training for name, layer in network.named_modules()}
    weights = {key: w.clone() for key, w in network.state_dict().items()}
    random_state = torch.get_rng_state()

    found = summarize(network, 3, 32)

    assert found.params - found.trainable == network[-1].weight.numel()
    assert "Non-trainable params: 256" in format_summary(found).splitlines()
    assert {name: layer.training for name, layer in network.named_modules()} == modes
    assert not any(layer._forward_hooks for layer in network.modules())
    for key, w in network.state_dict().items():
        assert w.device.type == "cpu"
        assert torch.equal(w, weights[key]), key
    assert torch.equal(torch.get_rng_state(), random_state)


def test_weights_are_not_copied():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False))
    # One number seen ten million times ten million times: a true copy would need 400 TB.
    network[1].weight = nn.Parameter(torch.zeros(()).expand(10_000_000, 10_000_000), requires_grad=False)
    network[1].in_features = network[1].out_features = 10_000_000
    network[0] = nn.Upsample(size=(1, 10_000_000))
    assert summarize(network, 1, 1).params == 10**14


def test_shared_weights_are_counted_once():
    shared = nn.Linear(5, 5)
    found = summarize(nn.Sequential(shared, nn.ReLU(), shared), 1, 5)
    assert [row.name for row in found.rows] == ["Linear-1", "ReLU-2", "Linear-3"]
    assert found.params == 30


def test_a_summary_is_json():
    found = summarize(models.build_on_meta("lenet-table", 2), 1, 32)
    read = json.loads(json.dumps(dataclasses.asdict(found)))
    assert read["params"] == 61_026
    assert read["rows"][0] == {
        "name": "Conv2d-1",
        "layer": "conv1",
        "output": [-1, 6, 28, 28],
        "params": 156,
        "formula": "(32-5+2*0)/1+1 = 28",
        "multiply_adds": 6 * 28 * 28 * 25,
    }


@pytest.mark.parametrize("short", ["convnext_tiny", "resnet18"])
def test_multiply_adds_are_those_that_torchvision_states(short):
    stated = torchvision.models.get_model_weights(short).DEFAULT.meta["_ops"]  # in thousand millions
    found = summarize(models.build_on_meta(f"torchvision:{short}", 1000, 224).eval(), 3, 224)
    assert found.multiply_adds / 1e9 == pytest.approx(stated, rel=0.01)
