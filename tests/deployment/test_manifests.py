"""The manifests for clusters have the fields that the published definitions have, and start commands that there are."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"

# The fields of PyTorchJob, kubeflow.org/v1 (training-operator: pytorch_types.go and common_types.go beside it), as far
# as anybody would write them, with their kinds; below `template` those of Kubernetes' own PodTemplateSpec.
COUNT, TEXT, FLAG = int, str, bool
POD = {
    "securityContext": {"runAsNonRoot": FLAG, "runAsUser": COUNT, "fsGroup": COUNT},
    "containers": [
        {
            "name!": TEXT, "image!": TEXT, "command": [TEXT], "args": [TEXT], "env": [{"name!": TEXT, "value": TEXT}],
            "resources": {"limits": {"*": object}, "requests": {"*": object}},
            "volumeMounts": [{"name!": TEXT, "mountPath!": TEXT, "readOnly": FLAG}],
        }
    ],
    "volumes": [
        {
            "name!": TEXT, "persistentVolumeClaim": {"claimName!": TEXT, "readOnly": FLAG},
            "emptyDir": {"medium": TEXT, "sizeLimit": object},
        }
    ],
}  # fmt: skip
REPLICAS = {"replicas": COUNT, "restartPolicy": TEXT, "template!": {"metadata": {"*": object}, "spec!": POD}}
JOB = {
    "apiVersion!": TEXT,
    "kind!": TEXT,
    "metadata!": {"name!": TEXT, "namespace": TEXT, "labels": {"*": TEXT}},
    "spec!": {
        "nprocPerNode": TEXT,
        "elasticPolicy": {
            "minReplicas": COUNT, "maxReplicas": COUNT, "maxRestarts": COUNT, "rdzvBackend": TEXT, "rdzvPort": COUNT,
            "rdzvHost": TEXT, "rdzvId": TEXT, "rdzvConf": [{"key": TEXT, "value": TEXT}], "standalone": FLAG,
        },
        "runPolicy": {
            "cleanPodPolicy": TEXT, "ttlSecondsAfterFinished": COUNT, "activeDeadlineSeconds": COUNT, "backoffLimit": COUNT,
            "suspend": FLAG, "schedulingPolicy": {"*": object},
        },
        "pytorchReplicaSpecs!": {"Master": REPLICAS, "Worker": REPLICAS},
    },
}  # fmt: skip


def wrong(value, shape, place="job"):
    """What in `value` the shape does not allow; names with "!" must be there, "*" stands for any."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return [f"{place} is no list"]
        return [each for i, item in enumerate(value) for each in wrong(item, shape[0], f"{place}[{i}]")]
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return [f"{place} is no map"]
        fields = {name.rstrip("!"): kind for name, kind in shape.items()}
        found = [f"{place}.{name[:-1]} is missing" for name in shape if name.endswith("!") and name[:-1] not in value]
        for name, item in value.items():
            if name not in fields and "*" not in fields:
                found.append(f"{place}.{name} is unknown")
            else:
                found += wrong(item, fields.get(name, fields.get("*")), f"{place}.{name}")
        return found
    fits = isinstance(value, shape) and not (shape is int and isinstance(value, bool))
    return [] if fits else [f"{place} is {value!r}"]


@pytest.fixture
def job():
    return yaml.safe_load((DEPLOY / "pytorchjob.yaml").read_text())


def test_the_job_has_the_published_fields(job):
    assert wrong(job, JOB) == []
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    elastic, worker = job["spec"]["elasticPolicy"], job["spec"]["pytorchReplicaSpecs"]["Worker"]
    assert elastic["rdzvBackend"] in ("c10d", "etcd", "etcd-v2")
    assert elastic["minReplicas"] <= worker["replicas"] <= elastic["maxReplicas"]
    assert worker["restartPolicy"] in ("Always", "OnFailure", "Never", "ExitCode")
    assert job["spec"]["runPolicy"]["cleanPodPolicy"] in ("All", "Running", "None")
    assert re.fullmatch(r"auto|cpu|gpu|\d+", job["spec"]["nprocPerNode"])
    (container,) = worker["template"]["spec"]["containers"]
    assert container["name"] == "pytorch"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in worker["template"]["spec"]["volumes"]}
    assert int(job["spec"]["nprocPerNode"]) == container["resources"]["limits"]["nvidia.com/gpu"]


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job["spec"].update(replicas=3),
        lambda job: job["spec"]["elasticPolicy"].update(minReplicas="2"),
        lambda job: job["spec"].pop("pytorchReplicaSpecs"),
        lambda job: job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0].pop("image"),
        lambda job: job["spec"]["runPolicy"].update(suspend=1),
        lambda job: job["spec"].update(nprocPerNode=8),
    ],
)
def test_a_mistake_in_it_would_be_found(job, change):
    change(job)
    assert len(wrong(job, JOB)) == 1


def test_what_it_starts_the_program_takes(job, tmp_path):
    (container,) = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["torchrun", "-m", "tapetum"]
    command = [sys.executable, *container["command"][1:3], "train", str(tmp_path / "none"), *container["command"][5:]]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 2
    assert "none does not exist" in ended.stderr or "could not write" in ended.stderr


def test_slurm_script_asks_for_what_it_uses(tmp_path):
    bash = shutil.which("bash")
    assert bash
    script = DEPLOY / "train.sbatch"
    text = script.read_text()
    assert subprocess.run([bash, "-n", script], check=False).returncode == 0
    for name, said in (("scontrol", "echo one; echo two"), ("srun", 'printf "%s\\n" "$@" > "$TOLD"')):
        (tmp_path / name).write_text(f"#!{bash}\n{said}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "TOLD": str(tmp_path / "told"), "SLURM_JOB_NODELIST": "one,two",
        "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "7",
    }  # fmt: skip
    for resumed in (False, True):
        if resumed:
            (tmp_path / "out" / "checkpoint").mkdir(parents=True)
            (tmp_path / "out" / "checkpoint" / "state-000000001.safetensors").touch()
        subprocess.run([bash, script, "photos", "out", "--seed", "3"], env=environment, cwd=tmp_path, check=True)
        told = (tmp_path / "told").read_text().split()
        assert told[:4] == ["torchrun", "--nnodes=2", "--nproc-per-node=8", "--max-restarts=3"]
        assert "--rdzv-endpoint=one:29500" in told
        tail = told[told.index("-m") :]
        assert tail == ["-m", "tapetum", "train", "photos", "--out", "out", *(["--resume"] if resumed else []), "--seed", "3"]
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)", text, re.MULTILINE))
    assert options["ntasks-per-node"] == "1"
    assert options["signal"].startswith("TERM@")
    assert json.loads(options["nodes"]) > 1
