"""Rows 1 to 3: model files that are malicious, damaged, or well sealed and hostile."""

import builtins
import contextlib
import copy
import gzip
import hashlib
import io
import json
import os
import pickle
import random
import resource
import struct
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as sealed_by_others

import tapetum as package
from common import QUICK, Outcome, classifier, encoded, in_child, kept, noise, program, row, stripes, together
from tapetum.errors import UserError

# What a payload calls. Each leaves a marker when it is unpickled.
_CALLS = {
    "os.system": lambda marker: (os.system, (f"touch {marker}",)),
    "exec": lambda marker: (builtins.exec, (f"open({str(marker)!r}, 'w')",)),
    "eval": lambda marker: (builtins.eval, (f"open({str(marker)!r}, 'w')",)),
    "open": lambda marker: (builtins.open, (str(marker), "w")),
    "os.mkdir": lambda marker: (os.mkdir, (str(marker),)),
}


class _Payload:
    def __init__(self, call: tuple) -> None:
        self.call = call

    def __reduce__(self) -> tuple:
        return self.call


def _torch_file(content: Any, **how: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def _zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, content)
    return buffer.getvalue()


def _array_file(payload: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([payload], object), allow_pickle=True)
    return buffer.getvalue()


# What a payload is wrapped in, each a function of the payload, and how the control opens it.
_WRAPPINGS = {
    "pickle": pickle.dumps,
    "pickle 0": lambda payload: pickle.dumps(payload, 0),
    "torch.save": _torch_file,
    "torch.save, old": lambda payload: _torch_file(payload, _use_new_zipfile_serialization=False),
    "among weights": lambda payload: _torch_file({"conv1.weight": torch.zeros(2), "x": payload}),
    "gzip": lambda payload: gzip.compress(pickle.dumps(payload)),
    "zip": lambda payload: _zipped("archive/data.pkl", pickle.dumps(payload)),
    "npy": _array_file,
    "after a safetensors head": lambda payload: sealed_by_others({"a": torch.zeros(2)}) + pickle.dumps(payload),
}


def _opened(content: bytes) -> None:
    """What a careless reader does, to see that the payloads are live."""
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    if content[:6] == b"\x93NUMPY":
        np.load(io.BytesIO(content), allow_pickle=True)
    elif content[:2] == b"PK" and b"data.pkl" in content and b"version" not in content:
        pickle.loads(zipfile.ZipFile(io.BytesIO(content)).read("archive/data.pkl"))
    elif content[8:9] == b"{":
        pickle.loads(content[content.index(b"\x80\x04") :])
    elif content[:2] in (b"PK",) or b"\x8a\x0al\xfc\x9cF" in content[:40]:
        torch.load(io.BytesIO(content), weights_only=False)
    else:
        pickle.loads(content)


@row(1, "a pickle that calls is never called, whatever it is named and wrapped in, and however it is opened")
def malicious_pickles(place: Path) -> Outcome:
    """Live payloads in wrappings, under three names, opened in nine ways, also where torch is told to trust everything."""
    data = stripes(place / "data", 4)
    marker, run = place / "MARKER", place / "run"
    (run / "checkpoint").mkdir(parents=True)
    (run / "settings.toml").write_text("[asked]\n[decided]\n[about]\n")
    names = ("model.safetensors", "model.pt", "model.pth", "checkpoint/state-000000001.safetensors")
    train = ("train", data, "--out", place / "new", *QUICK)
    ways: list[tuple[object, ...]] = [
        ("predict", run, data),
        ("predict", run / "model.pt", data, "--out", place / "p.csv"),
        ("evaluate", run / "model.pth", data),
        *((*train, "--weights", run / name) for name in names[:3]),
        (*train, "--settings", run / "model.pt"),
        ("train", data, "--out", run, "--resume", *QUICK, "--epochs", "1"),
        ("compare", run, run / "model.pt", data),
    ]
    payloads = [
        (call, wrapping) for call in _CALLS for wrapping in _WRAPPINGS if call in ("os.system", "exec") or "s" in wrapping
    ]
    live = markers = refused = 0
    slowest, others = 0.0, []
    for call, wrapping in payloads:
        content = _WRAPPINGS[wrapping](_Payload(_CALLS[call](marker)))
        in_child(_opened, content)
        live += _gone(marker)
        for name in names:
            (run / name).write_bytes(content)
        for trusting in ("", "1"):
            for way, (code, said, seconds) in zip(ways, in_child(_try_all, ways, trusting).value, strict=True):
                fine = code == 2 and said.count("tapetum: ") == 1 and "Traceback" not in said
                refused += fine
                slowest = max(slowest, seconds)
                if not fine:
                    others.append(f"{call} in {wrapping}, {way[0]}: code {code}, {said[-160:]!r}")
            markers += _gone(marker)
    total = len(payloads) * 2 * len(ways)
    outcome = kept(refused, total, f"refused by exit code 2 and one sentence, slowest {slowest:.2f} s", *others)
    control = kept(live, len(payloads), "payloads go off in a careless reader")
    return together((markers == 0 and slowest < 1, f"{markers} markers"), outcome, control)


def _try_all(ways: list[tuple[object, ...]], trusting: str) -> list[tuple[object, str, float]]:
    """Exit code, talk and processor seconds of each command, in this process."""
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = trusting
    ends = []
    for way in ways:
        talk, code, begun = io.StringIO(), 0, time.process_time()
        with contextlib.redirect_stderr(talk):
            try:
                program(*way)
            except SystemExit as ended:
                code = ended.code
            except Exception as error:
                talk.write(f"Traceback {error!r}")
        ends.append((code, talk.getvalue(), time.process_time() - begun))
    return ends


def _gone(marker: Path) -> bool:
    """Whether the marker is there; it is taken away."""
    if marker.is_dir():
        marker.rmdir()
        return True
    if marker.exists():
        marker.unlink()
        return True
    return False


@row(2, "a model file with a flipped bit or a missing end is refused")
def damaged_models(place: Path) -> Outcome:
    """300 flips and 200 truncations, spread over the whole file."""
    path = place / "model.safetensors"
    classifier().save(path)
    whole = path.read_bytes()
    chance = random.Random(0)
    package.load(path)  # the whole one is not refused

    def refused(content: bytes) -> bool:
        path.write_bytes(content)
        try:
            package.load(path)
        except UserError:
            return True
        return False

    flips = 0
    for n in range(300):
        place_of = n if n < 100 else chance.randrange(len(whole))  # the head of the file, and anywhere
        flips += refused(whole[:place_of] + bytes([whole[place_of] ^ 1 << chance.randrange(8)]) + whole[place_of + 1 :])
    cuts = sum(refused(whole[: chance.randrange(len(whole))]) for _ in range(200))
    return together(kept(flips, 300, f"flips refused ({len(whole):,} bytes)"), kept(cuts, 200, "truncations refused"))


# Values that a hostile author would try.
_STRANGE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 10**6, 10**9, 2**31, 2**63, 2**64, 10**400, 0.5, -0.5, 1e308, 1e-308, float("nan")),
    *("", "a", "os.system", "__import__('os').system('id')", "../../x", "lenet", "alexnet", "compact", "lenet5-1998", "\0"),
    *("alexnet-2012", "torchvision:resnet18", "torchvision:regnet_y_128gf", "torchvision:vit_h_14", "torchvision:os"),
    *("torchvision:inception_v3", "torchvision:vgg19", "ten", "mirror", "pad", "squash", "x" * 100_000, "\ud800", "고양이"),
    *([], {}, [[]], ["a"], ["a", "b"], ["a", "b", "c"], [1, 2], [None, None], ["a", ["b"]], [0.5] * 3, [0.5] * 1000, {"a": 1}),
    *([str(n) for n in range(5_000)], {"__class__": "x"}, [float("inf")] * 3, "ab", {"0": "a", "1": "b"}),
]


def _paths(value: Any, here: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, each in inner for path in _paths(each, (*here, key)))]


def _mutate(value: Any, chance: random.Random) -> Any:
    """`value`, JSON, with one thing in it strange, gone, doubled or nested deep."""
    value = copy.deepcopy(value)
    path = chance.choice(_paths(value))
    if not path:
        return chance.choice(_STRANGE)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    match chance.randrange(8):
        case 0:
            del holder[path[-1]]
        case 1 if isinstance(holder, dict):
            holder[chance.choice(("x", "__class__", "", "size", "format"))] = holder[path[-1]]
        case 2:
            for _ in range(chance.choice((1, 5, 60))):
                holder[path[-1]] = [holder[path[-1]]]
        case _:
            holder[path[-1]] = chance.choice(_STRANGE)
    return value


def _sealed(header: Any, about: Any, tensors: bytes, text: str | None = None) -> bytes:
    """A file with the right seal around anything. Its author knows the format; this knows nothing of tapetum's code."""
    inner = json.dumps(about) if text is None else text
    inner = '{"seal": "' + "0" * 64 + '"' + (", " + inner[1:] if inner[:1] == "{" and inner != "{}" else ", " + inner + "}")
    rest = json.dumps(header)
    head = '{"__metadata__":' + json.dumps({"tapetum": inner}, separators=(",", ":"))
    head += "," + rest[1:] if rest[:1] == "{" and rest != "{}" else "," + rest + "}"
    packed = head.encode("utf-8", "surrogatepass")
    content = bytearray(struct.pack("<Q", len(packed)) + packed + tensors)
    place = content.index(b"0" * 64)
    content[place : place + 64] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def _hostile(first: int, last: int, whole: bytes, path: Path, picture: bytes) -> dict[str, Any]:
    """Load the files `first` to `last` - 1, and use those that load; what happened comes back."""
    told: dict[str, Any] = {"refused": 0, "loaded": 0, "wrong": [], "imported": set(), "slow": (0.0, "")}
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    about = json.loads(header.pop("__metadata__")["tapetum"])
    del about["seal"]
    for large in ("metrics", "settings"):
        about.pop(large, None)
    watch = {"on": False}

    def hook(event: str, arguments: tuple) -> None:
        if not watch["on"]:
            return
        if event == "import" and arguments[0].split(".")[0] not in ("torch", "torchvision") and arguments[0] not in sys.modules:
            told["imported"].add(arguments[0])
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if writes or event in ("os.system", "subprocess.Popen", "socket.connect", "os.exec", "os.posix_spawn"):
            told["wrong"].append(f"event {event} {arguments[0]!r}")

    sys.addaudithook(hook)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + 2 * 1024**3,) * 2)
    for number in range(first, last):
        chance = random.Random(number)
        strange_header, strange_about, text = header, about, None
        for _ in range(chance.choice((1, 1, 2, 4))):
            if chance.random() < 0.75:
                strange_about = _mutate(strange_about, chance)
            else:
                strange_header = _mutate(strange_header, chance)
        if chance.random() < 0.05:
            broken = json.dumps(strange_about)
            text = broken[: chance.randrange(len(broken))] + chance.choice(("", "]" * 9, "[" * 100_000, "\\u00"))
        path.write_bytes(_sealed(strange_header, strange_about, whole[8 + length :], text))
        begun = time.monotonic()
        watch["on"] = True
        try:
            found = package.load(path)
            what = f"{found.network_name} {found.preprocessing}"
            if found.preprocessing.side <= 256:
                found.predict_proba([picture])
            else:
                found.prepare(np.zeros((40, 50, 3), np.uint8))
            told["loaded"] += 1
        except UserError as error:
            told["refused"] += 1
            what = str(error)
            if "allocate" in what or "memory" in what.casefold():
                told["wrong"].append(f"file {number}: {what[-200:]}")
        except BaseException as error:
            what = f"{type(error).__name__}: {error}"[:200]
            told["wrong"].append(f"file {number}: {what}")
        watch["on"] = False
        told["slow"] = max(told["slow"], (time.monotonic() - begun, f"file {number}: {what[:200]}"))
    return told


@row(3, "a well sealed file with a hostile content loads harmlessly or is refused: nothing imported, nothing over 2 GiB")
def hostile_models(place: Path) -> Outcome:
    """2,000 mutated descriptions and headers with a right checksum, in children that may take 2 GiB."""
    path = place / "model.safetensors"
    classifier().save(path)
    whole, picture = path.read_bytes(), encoded(noise(0))
    import torchvision.models  # noqa: F401 - what the registry itself imports is none of the file's doing

    # The registry's first look at its networks imports what it needs.
    package.load(path).predict_proba([picture])
    told = []
    for first in range(0, 2000, 250):
        ended = in_child(_hostile, first, first + 250, whole, path, picture, seconds=600)
        told.append(
            ended.value
            or {
                "refused": 0,
                "loaded": 0,
                "wrong": [f"crash {ended.code} {ended.err[-300:]}"],
                "imported": set(),
                "slow": (0.0, ""),
            }
        )
    refused, loaded = (sum(each[word] for each in told) for word in ("refused", "loaded"))
    wrong = [each for some in told for each in some["wrong"]]
    imported = set().union(*(each["imported"] for each in told))
    slow = max(each["slow"] for each in told)
    figure = f"{refused:,} refused, {loaded:,} harmless of 2,000; imports {len(imported)} {sorted(imported)[:5] or ''}".strip()
    figure += f"; faults {len(wrong)}; slowest {slow[0]:.1f} s" + "".join(f"; {each}" for each in wrong[:8])
    if slow[0] > 10:
        figure += f" ({slow[1]})"
    return refused + loaded == 2000 and not wrong and not imported and slow[0] < 10, figure
