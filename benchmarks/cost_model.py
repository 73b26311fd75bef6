"""What a training step costs on many machines, and which part of it binds: a model of three terms, checked on published runs.

    python benchmarks/cost_model.py
    python benchmarks/cost_model.py --measured benchmarks/scaling.json

A synchronous step with b pictures on each of n devices, h of them in a machine, takes the longer of

    computing and exchange    b * work / rate  +  exchange(bytes, n)
    reading                   h * b / (pictures that a machine reads in a second)

The exchange is a ring within each machine and one between machines: 2 (k - 1) / k * bytes / bandwidth + 2 (k - 1) * delay for k
partners. Nothing of it is hidden behind the backward pass, as in tapetum's own step.

    work     multiply-adds forward, twice, for multiply and add; three times that with the backward pass. From the network.
    rate     floating-point operations a second that a device reaches on such a network. The assumption that counts most.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

IMAGENET = 1_281_167
# ResNet-50 at 224 pixels: 4.1e9 multiply-adds, 25.6 million parameters (He et al. 2016; torchvision's summary says the same).
RESNET50 = (4.1e9, 25.6e6)


@dataclass(frozen=True)
class Cluster:
    """What the terms need to know; seconds, bytes, operations."""

    name: str
    rate: float
    """Operations a second of a device."""
    a_machine: int
    """Devices in it."""
    inside: float
    """Bytes a second between devices of a machine."""
    between: float
    """Bytes a second between machines, one way."""
    delay: float = 5e-6
    """Of each message."""
    reads: float = math.inf
    """Pictures a second that a machine reads, decodes and prepares."""


@dataclass(frozen=True)
class Step:
    """The terms of one step, in seconds."""

    compute: float
    exchange: float
    reading: float

    @property
    def seconds(self) -> float:
        return max(self.compute + self.exchange, self.reading)

    @property
    def binds(self) -> str:
        """The term that would have to shrink."""
        if self.reading > self.compute + self.exchange:
            return "reading"
        return "exchange" if self.exchange > self.compute else "computing"


def ring(size: float, partners: int, bandwidth: float, delay: float) -> float:
    """Seconds of an all-reduce of `size` bytes among so many partners (Patarasuk & Yuan 2009)."""
    return 2 * (partners - 1) / partners * size / bandwidth + 2 * (partners - 1) * delay


def step(cluster: Cluster, devices: int, batch: float, multiply_adds: float, parameters: float) -> Step:
    """The step with `batch` pictures a device."""
    here = min(devices, cluster.a_machine)
    machines = math.ceil(devices / cluster.a_machine)
    exchange = ring(4 * parameters, here, cluster.inside, cluster.delay)
    exchange += ring(4 * parameters, machines, cluster.between, cluster.delay)
    return Step(6 * multiply_adds * batch / cluster.rate, exchange, here * batch / cluster.reads)


def alexnet() -> tuple[float, float]:
    """Multiply-adds and parameters of `alexnet-2012` with 1,000 classes."""
    from tapetum import models
    from tapetum.models.summary import summarize

    found = summarize(models.build_on_meta("alexnet-2012", 1000), 3, 227)
    return float(found.multiply_adds), float(found.params)


# Assumed, not measured: devices that reach 20 TFLOP/s (a large GPU in half precision, on layers this small), eight in a machine
# with 200 GB/s between them; 96 cores that decode and crop 60 ImageNet photos a second each.
FAST = Cluster("20 TFLOP/s, 8 a machine, 100 Gbit/s", 20e12, 8, 200e9, 12.5e9, reads=96 * 60)
CLUSTERS = [
    FAST,
    replace(FAST, name="the same, 10 Gbit/s", between=1.25e9),
    replace(FAST, name="the same, reading free", reads=math.inf),
]


def predictions() -> Iterable[str]:
    """Tables of what is predicted for ImageNet."""
    work, parameters = alexnet()
    yield f"alexnet-2012: {work / 1e6:,.0f} million multiply-adds, {4 * parameters / 1e6:,.0f} MB of gradients"
    for cluster in CLUSTERS:
        for how, share in (("128 pictures a device", lambda n: 128.0), ("32,768 pictures a step", lambda n: 32_768 / n)):
            yield f"\n{cluster.name}; {how}\n"
            yield "| devices | ms: computing | exchange | reading | pictures/s | of 8 devices' | an epoch | binds |"
            yield "|---|---|---|---|---|---|---|---|"
            base = None
            for n in (8, 16, 64, 256, 1000):
                found = step(cluster, n, share(n), work, parameters)
                speed = n * share(n) / found.seconds
                base = base or speed / 8
                terms = " | ".join(f"{1000 * each:.1f}" for each in (found.compute, found.exchange, found.reading))
                yield f"| {n:,} | {terms} | {speed:,.0f} | {speed / n / base:.0%} | {IMAGENET / speed:.1f} s | {found.binds} |"


def checks() -> Iterable[str]:
    """Published runs beside what the model says of them. Where a paper does not give a rate, one of its figures fixes it."""
    yield "\n| published | figure | the model |\n|---|---|---|"
    # Goyal et al. 2017: 8,192 pictures a step on 256 GPUs, 32 each; 90 epochs in an hour fix the rate.
    per_device = 90 * IMAGENET / 3600 / 256
    network = RESNET50
    rate = 6 * network[0] * per_device / 0.9  # what it would be without the exchange that cost about a tenth
    cluster = Cluster("Big Basin", rate, 8, 20e9, 50e9 / 8)
    eight, many = (step(cluster, n, 32, *network).seconds for n in (8, 256))
    yield f"| Goyal et al. 2017: efficiency of 256 GPUs against 8 | about 90 % | {eight / many:.0%} |"
    # You et al. 2018: AlexNet, 100 epochs, 32,768 pictures a step. One time fixes the rate, the other is predicted.
    work, parameters = alexnet()
    steps = 100 * IMAGENET / 32_768
    omnipath = 12.5e9
    for devices, minutes, what in ((512, 24, "512 KNLs"), (1024, 11, "1,024 CPUs")):
        exchange = ring(4 * parameters, devices, omnipath, 5e-6)
        left = 60 * minutes / steps - exchange
        rate = 6 * work * 32_768 / devices / left
        yield (
            f"| You et al. 2017, 2018: AlexNet, 100 epochs on {what} | {minutes} min, {60_000 * minutes / steps:.0f} ms a step "
            f"| exchange {1000 * exchange:.0f} ms, which leaves {1000 * left:.0f} ms to compute at {rate / 1e12:.1f} TFLOP/s |"
        )
    # Krizhevsky 2014: eight K20 on PCIe; his linear layers are split over the devices. Here plain data parallelism, as ours is.
    for batch in (16, 128):
        k20 = Cluster("K20", 1.2e12, 8, 4e9, 1)
        one, found = step(k20, 1, 8 * batch, work, parameters), step(k20, 8, batch, work, parameters)
        yield (
            f"| Krizhevsky 2014: 8 GPUs against 1 | 6.16 times, with split linear layers | {one.seconds / found.seconds:.2f} "
            f"times without splitting, {8 * batch:,} pictures a step |"
        )


def fitted(file: Path) -> Iterable[str]:
    """The terms on this machine, fitted to what scaling.py measured, and what they say of its own ratio."""
    found = json.loads(file.read_text())
    many = [each["many"] for each in found["rounds"]]
    one = [each["one"] for each in found["rounds"]]
    middle = {name: statistics.median(each[name] for each in many) for name in many[0]}
    n, batch = found["about"]["processes"], found["about"]["batch"]
    bandwidth = 2 * (n - 1) / n * middle["gradient_bytes"] / middle["exchange"]
    single = statistics.median(each["step"] for each in one)
    yield (
        f"\nfitted to {file.name}: a picture takes a process {1000 * middle['rest'] / (batch / n):.2f} ms to compute and "
        f"{1000 * middle['data'] / (batch / n):.2f} ms to read; processes exchange {bandwidth / 1e9:.2f} GB/s"
    )
    for machines in (2, 8, 32):
        for speed in (0.125e9, 1.25e9):
            exchange = ring(middle["gradient_bytes"], machines, speed, 5e-5)
            seconds = middle["rest"] + middle["data"] + middle["exchange"] + exchange
            yield (
                f"{machines} such machines, {speed * 8 / 1e9:g} Gbit/s, {batch} pictures each: "
                f"{machines * batch / seconds:.0f} pictures/s, {single / seconds:.0%} of each machine's own speed"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path)
    args = parser.parse_args()
    print("\n".join([*predictions(), *checks(), *(fitted(args.measured) if args.measured else ())]))


if __name__ == "__main__":
    main()
