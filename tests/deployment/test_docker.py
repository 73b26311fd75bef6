"""The image's recipe keeps the rules of hadolint and of Docker's own bench, and says what is true of the program."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def instructions(text=TEXT):
    """(instruction, arguments) of each line, continued ones joined, comments left out."""
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(line.split(None, 1)[0], re.sub(r"\s+", " ", line.split(None, 1)[1])) for line in lines if line.strip()]


def stages(text=TEXT):
    """Name of each stage, and its instructions with those of the stages that it is made from."""
    found = {}
    for name, rest in instructions(text):
        if name == "FROM":
            source, stage = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            found[stage] = list(found.get(source, [("FROM", source)]))
            current = stage
        else:
            found[current].append((name, rest))
    return found


@pytest.mark.parametrize("stage", ["torch", "onnx"])
def test_an_image_runs_as_nobody_and_says_whether_it_lives(stage):
    found = stages()[stage]
    assert [rest for name, rest in found if name == "USER"][-1] == "10001:10001"
    assert found.index(("USER", "10001:10001")) == len(found) - 2  # only the entry point comes after it
    assert sum(name == "HEALTHCHECK" for name, _ in found) == 1
    entry = json.loads(found[-1][1])
    assert found[-1][0] == "ENTRYPOINT"
    assert entry[:2] == ["tapetum", "serve"]


def test_nothing_is_fetched_but_packages_and_no_layer_keeps_rubbish():
    for name, rest in instructions():
        assert name in {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "HEALTHCHECK", "EXPOSE", "STOPSIGNAL", "USER", "ENTRYPOINT"}
        if name == "FROM" and "/" not in rest:
            source = rest.split()[0]
            assert source in stages() or re.fullmatch(r"python:\d+\.\d+-slim-\w+", source)
        if name == "RUN":
            assert not re.search(r"curl|wget|sudo|apt|chmod 777|\bcd ", rest)
            assert all("--no-cache-dir" in part for part in re.findall(r"pip (?:install|wheel)[^&]*", rest))
        if name == "COPY" and "--from" not in rest:
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources)
            kept = (ROOT / ".dockerignore").read_text().split()
            assert all(f"!{source}" in kept for source in sources)


def test_what_the_entry_says_the_program_takes():
    entry = [json.loads(rest) for name, rest in instructions() if name == "ENTRYPOINT"]
    for command in entry:
        ended = subprocess.run(
            [sys.executable, "-m", "tapetum", *command[1:2], "/no/such/file.onnx", *command[3:]],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 2
        assert "does not exist" in ended.stderr


IN_MEMORY = """
import importlib.metadata as metadata, os, sys, threading
from tapetum.deployment import service
wake = service.Service.start
async def start(self):
    await wake(self)
    names = metadata.packages_distributions()
    found = {each for module in list(sys.modules) for each in names.get(module.split(".")[0], [])}
    print("FOUND", *sorted(found), flush=True)
    os.kill(os.getpid(), 15)
service.Service.start = start
sys.argv = ["tapetum", "serve", sys.argv[1], "--port", "0"]
if __name__ == "__main__":
    from tapetum.__main__ import main
    main()
"""


def test_the_onnx_image_has_what_it_needs_and_no_more(served_file, tmp_path):
    (tmp_path / "start.py").write_text(IN_MEMORY)
    said = subprocess.run([sys.executable, tmp_path / "start.py", served_file], capture_output=True, text=True, check=True)
    line = next(line for line in said.stdout.splitlines() if line.startswith("FOUND"))
    in_memory = {name.lower().replace("_", "-") for name in line.split()[1:]}
    asked = dict(re.findall(r"^([a-z-]+)(>=\S+)", (DEPLOY / "onnx-requirements.txt").read_text(), re.MULTILINE))
    assert set(asked) <= in_memory
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    known = dict(re.findall(r"([a-z-]+)(>=[\d.]+)", " ".join([*project["dependencies"], *extras["serve"], *extras["onnx"]])))
    assert asked == {name: known[name] for name in asked}
    own = {name.lower().replace("_", "-") for name in known} & in_memory
    assert own <= set(asked)
    assert "torch" not in in_memory


def test_compose_shuts_the_container_in():
    yaml = pytest.importorskip("yaml")
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["tapetum"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["environment"]["TAPETUM_TOKEN"].startswith("${TAPETUM_TOKEN:?")
    assert service["build"]["target"] in stages()
    assert int(service["stop_grace_period"].rstrip("s")) > 35  # the server drains for so long


def docker_answers():
    return shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not docker_answers(), reason="no Docker engine answers here")
def test_the_image_builds():
    subprocess.run(["docker", "build", "-f", DEPLOY / "Dockerfile", "--target", "onnx", "-t", "tapetum:test", ROOT], check=True)
