"""Several real Ray nodes on one machine that see neither the workspace nor each other's disk, on loopback alone.

    python -m tests.hidden_nodes SCENARIO WORKSPACE

runs in namespaces of its own (network, mounts, processes: all ends with it) and prints what the commands of the
scenario did, as JSON. The network has the loopback interface and nothing else; each node has an address on it. The
head has no CPU for work. A worker node has a mount namespace with an empty /tmp and without this project's code.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
HEAD, PORT, GUARDED_PORT = "10.9.0.1", 6379, 6390
ANY_PORT = ["--min-worker-port=0", "--max-worker-port=0"]  # the nodes share one network: no two may choose the same
S3 = "http://127.0.0.1:5555"
BUCKET = "s3://lea-test/team"
CREDENTIALS = "[default]\naws_access_key_id = someone\naws_secret_access_key = secret\n"  # moto takes any
NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
WORKER = """
mount -t tmpfs tmpfs /tmp && mkdir -p /tmp/home && mount -t tmpfs tmpfs {root}/components
mount -t tmpfs tmpfs {root}/pipelines && cd /tmp
exec {bin}/ray start --address={head}:{port} --node-ip-address={address} --num-cpus={cpus} --block \
  --object-store-memory=80000000 --disable-usage-stats {ports}
"""
NO_COMMANDS = [f"{each}setup_commands" for each in ("", "head_", "worker_")]  # Ray's autoscaler wants them named
NO_COMMANDS += ["initialization_commands", "head_start_ray_commands", "worker_start_ray_commands"]
NO_COMMANDS += ["cluster_synced_files", "rsync_exclude", "rsync_filter"]
HIDDEN = f"hidden nodes need root and unshare: {' '.join(NAMESPACES)}"


def can_hide() -> bool:
    """Whether this machine lets us make such nodes."""
    probe = subprocess.run([*NAMESPACES, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    return probe.returncode == 0


def run_scenario(name: str, workspace: Path, timeout_s: float) -> dict[str, Any]:
    """What the commands of a scenario did: {command: {"code", "out", "err"}, ..}, and what else it tells."""
    done = subprocess.run(
        [*NAMESPACES, sys.executable, "-m", "tests.hidden_nodes", name, str(workspace)],
        cwd=ROOT,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def plain_environment() -> dict[str, str]:
    """The user's environment without what would lead to another cluster, store or registry."""
    ours = ("RAY_", "LEA_", "AWS_", "DVC_", "MLFLOW_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{kept.get('PATH', '')}"}


class Nodes:
    """The head, in this mount namespace, and worker nodes, each in its own."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.found: dict[str, Any] = {}
        self._processes: list[subprocess.Popen] = []
        self._environment = {
            **plain_environment(),
            "HOME": str(workspace / "user"),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "GLOO_SOCKET_IFNAME": "lo",
            "AWS_EC2_METADATA_DISABLED": "true",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "4",
        }

    def start(self, *command: str, log: str, **environment: str) -> subprocess.Popen:
        with (self.workspace / f"{log}.log").open("w") as stream:
            process = subprocess.Popen(
                command, env=self._environment | environment, stdout=stream, stderr=stream, start_new_session=True
            )
        self._processes.append(process)
        return process

    def start_head(self) -> None:
        options = ["--num-cpus=0", "--dashboard-host=127.0.0.1", "--object-store-memory=80000000"]
        head = ["--head", f"--node-ip-address={HEAD}", f"--port={PORT}", "--block", "--disable-usage-stats", *ANY_PORT]
        self.start(f"{BIN}/ray", "start", *head, *options, log="head")
        self.wait_for(1)

    def start_guarded_head(self, token: str) -> None:
        """Another cluster, which asks for a token."""
        asks = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        options = ["--num-cpus=1", f"--node-ip-address={HEAD}", f"--port={GUARDED_PORT}", "--include-dashboard=false"]
        options += ["--ray-client-server-port=10051", *ANY_PORT]
        self.start(f"{BIN}/ray", "start", "--head", *options, "--block", log="guarded", **asks)
        until(lambda: "Ray runtime started" in (self.workspace / "guarded.log").read_text(encoding="utf-8"), 60)

    def start_scaled_head(self, workers: int, cpus: int) -> None:
        """A head with an autoscaler (version 2), which brings up to `workers` nodes where something asks for them."""
        from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

        kinds = {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": cpus}, "node_config": {}, "min_workers": 0, "max_workers": workers},
        }
        config = {
            "cluster_name": "scaled",
            "max_workers": workers,
            "provider": {
                "type": "external",
                "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
                "launch_multiple": True,
                "disable_node_updaters": True,
                "head_node_id": FAKE_HEAD_NODE_ID,
            },
            "available_node_types": kinds,
            "head_node_type": "ray.head.default",
            **{name: [] for name in NO_COMMANDS},
            **{name: {} for name in ("auth", "docker", "file_mounts")},
        }
        path = self.workspace / "scaled.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        options = [
            "--num-cpus=0",
            f"--node-ip-address={HEAD}",
            f"--port={PORT}",
            "--include-dashboard=false",
            f"--autoscaling-config={path}",
        ]
        options += ["--ray-client-server-port=10061", "--object-store-memory=80000000", *ANY_PORT]
        scales = {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        }
        self.start(f"{BIN}/ray", "start", "--head", *options, "--block", log="scaled", **scales)
        until(lambda: "Ray runtime started" in (self.workspace / "scaled.log").read_text(encoding="utf-8"), 60)

    def start_worker(self, number: int, cpus: int = 1) -> subprocess.Popen:
        """A node at 10.9.0.NUMBER."""
        address = f"10.9.0.{number}"
        script = WORKER.format(
            root=ROOT, bin=BIN, head=HEAD, port=PORT, address=address, cpus=cpus, ports=" ".join(ANY_PORT)
        )
        return self.start(
            "unshare", "--mount", "sh", "-c", script, log=f"node{number}", HOME="/tmp/home", PYTHONPATH=""
        )

    def start_s3(self) -> None:
        self.start(f"{BIN}/moto_server", "-H", "127.0.0.1", "-p", S3.rpartition(":")[2], log="s3")
        import boto3

        until(lambda: b"moto" in _get(f"{S3}/moto-api/"), 60)
        client = boto3.client("s3", endpoint_url=S3, region_name="us-east-1", **_keys())
        client.create_bucket(Bucket=BUCKET.split("/")[2])

    def give_credentials(self, node: subprocess.Popen) -> None:
        """Put a file with credentials where this node, and no other, finds it."""
        script = f"mkdir -p /tmp/home/.aws && printf '{CREDENTIALS}' > /tmp/home/.aws/credentials"
        subprocess.run(["nsenter", "--target", str(node.pid), "--mount", "sh", "-c", script], check=True)

    def files_on(self, node: subprocess.Popen, folder: str) -> list[str]:
        found = subprocess.run(
            ["nsenter", "--target", str(node.pid), "--mount", "find", folder, "-type", "f"],
            capture_output=True,
            text=True,
            check=False,
        )
        return found.stdout.split()

    def wait_for(self, number: int, timeout_s: float = 90) -> None:
        """Until so many nodes are up."""
        script = (
            f"import ray, time; ray.init('{HEAD}:{PORT}', log_to_driver=False); up = lambda: sum(n['Alive'] for n in "
            f"ray.nodes()); [time.sleep(0.5) for _ in range(150) if up() < {number}]; assert up() >= {number}"
        )
        ended = time.monotonic() + timeout_s
        while subprocess.run([sys.executable, "-c", script], env=self._environment, capture_output=True).returncode:
            assert time.monotonic() < ended, (self.workspace / "head.log").read_text()
            time.sleep(1)

    def run(self, name: str, command: Sequence[str], environment: Mapping[str, str], timeout_s: float = 240) -> None:
        """Run a user's command in the workspace on the head's machine, and note what it did."""
        started = time.monotonic()
        done = subprocess.run(
            command,
            cwd=self.workspace,
            env=self._environment | {"RAY_ADDRESS": f"{HEAD}:{PORT}"} | dict(environment),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        self.found[name] = {
            "code": done.returncode,
            "out": done.stdout,
            "err": done.stderr,
            "seconds": round(time.monotonic() - started, 1),
        }

    def stage(
        self, name: str, stage: str, home: str, environment: Mapping[str, str] | None = None, timeout_s: float = 240
    ) -> None:
        where = {"LEA_HOME": str(self.workspace / home), **(environment or {})}
        self.run(name, [sys.executable, "-m", f"pipelines.{stage}"], where, timeout_s)

    def end(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def with_s3(**more: str) -> dict[str, str]:
    """The environment of a user who has credentials."""
    return {"LEA_STORAGE": BUCKET, "AWS_ENDPOINT_URL": S3, "AWS_DEFAULT_REGION": "us-east-1", **_user_keys(), **more}


def _keys() -> dict[str, str]:
    return {"aws_access_key_id": "someone", "aws_secret_access_key": "secret"}


def _user_keys() -> dict[str, str]:
    return {name.upper(): value for name, value in _keys().items()}


def _get(url: str) -> bytes:
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        return urlopen(url, timeout=2).read()
    except (URLError, OSError):
        return b""


def until(holds: Callable[[], object], timeout_s: float) -> None:
    ended = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ended
        time.sleep(0.2)


def set_param(workspace: Path, **values: Any) -> None:
    """Change params.yaml; dots in keys are written as `__`."""
    import yaml

    path = workspace / "params.yaml"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        *sections, last = key.split("__")
        inner = tree
        for section in sections:
            inner = inner[section]
        inner[last] = value
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


@contextmanager
def nodes(workspace: Path) -> Iterator[Nodes]:
    found = Nodes(workspace)
    (workspace / "user").mkdir(exist_ok=True)
    try:
        yield found
    finally:
        found.end()


def mistakes(up: Nodes) -> None:
    """What ends in one line before training starts."""
    first = up.start_worker(2)
    up.start_worker(3)
    up.wait_for(3)
    up.stage("hidden home", "pretrain", "home")
    set_param(up.workspace, training__workers=4)
    up.stage("too few CPUs", "pretrain", "home")
    set_param(up.workspace, training__workers=2)
    up.start_s3()
    up.give_credentials(first)
    up.stage("no credentials", "pretrain", "home", with_s3())
    up.stage("another disk", "pretrain", "home", {"LEA_STORAGE": f"file://{up.workspace}/storage"})
    up.start_guarded_head("b" * 64)
    guarded = {"RAY_ADDRESS": f"{HEAD}:{GUARDED_PORT}"}
    up.stage("no token", "pretrain", "home", guarded)
    up.stage("another token", "pretrain", "home", {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64} | guarded)


def training(up: Nodes) -> None:
    """Both stages on nodes that share nothing but an S3 store."""
    workers = [up.start_worker(2), up.start_worker(3)]
    up.start_s3()
    up.wait_for(3)
    for worker in workers:
        up.give_credentials(worker)
    up.stage("pretrain", "pretrain", "home", with_s3())
    up.stage("finetune", "finetune", "home", with_s3())
    up.stage("pretrain elsewhere", "pretrain", "home2", with_s3(RAY_ADDRESS=""))
    up.found["cached"] = [up.files_on(worker, "/tmp/home/.cache/local-enhanced-adapters") for worker in workers]
    up.found["requests"] = (up.workspace / "s3.log").read_text(encoding="utf-8").splitlines()


def search(up: Nodes) -> None:
    """A search whose trials train on such nodes; the head, where the trials' own processes are, has no CPU."""
    workers = [up.start_worker(2), up.start_worker(3)]
    up.start_s3()
    up.wait_for(3)
    up.stage("no credentials here", "tune", "home", with_s3())
    for worker in workers:
        up.give_credentials(worker)
    (up.workspace / "user" / ".aws").mkdir(exist_ok=True)
    (up.workspace / "user" / ".aws" / "credentials").write_text(CREDENTIALS, encoding="utf-8")
    up.stage("tune", "tune", "home", timeout_s=400, environment=with_s3())


def lost(up: Nodes) -> None:
    """A node that is lost in the middle of a run: another one goes on from what the storage holds."""
    workers = [up.start_worker(2), up.start_worker(3)]
    up.start_s3()
    up.wait_for(3)
    for worker in workers:
        up.give_credentials(worker)
    set_param(up.workspace, pretrain__epochs=60, training__checkpoint_every_steps=10)
    up.stage("calm", "pretrain", "calm60", with_s3())
    spare = up.start_worker(4)
    up.wait_for(4)
    up.give_credentials(spare)

    def strike() -> None:
        until(lambda: s3_log().count("listing.json") > before + 6, 200)
        node = psutil.Process(workers[0].pid)
        for process in [node, *node.children(recursive=True)]:
            process.kill()

    def s3_log() -> str:
        return "\n".join(x for x in (up.workspace / "s3.log").read_text(encoding="utf-8").splitlines() if "PUT" in x)

    before = s3_log().count("listing.json")
    thread = threading.Thread(target=strike)
    thread.start()
    up.stage("lost", "pretrain", "home60", timeout_s=300, environment=with_s3(LEA_STORAGE=f"{BUCKET}-2"))
    thread.join()


def job(up: Nodes) -> None:
    """`ray job submit` of the workspace, which is no git repository there."""
    workers = [up.start_worker(2), up.start_worker(3)]
    up.start_s3()
    up.wait_for(3)
    for worker in workers:
        up.give_credentials(worker)
    (up.workspace / "user" / ".aws").mkdir(exist_ok=True)
    (up.workspace / "user" / ".aws" / "credentials").write_text(CREDENTIALS, encoding="utf-8")
    lines = (up.workspace / "infra" / "ray-job.yaml").read_text(encoding="utf-8")
    storage = {name: value for name, value in with_s3().items() if name not in _user_keys()}
    lines += "".join(f"  {name}: {value}\n" for name, value in storage.items())
    (up.workspace / "job.yaml").write_text(lines, encoding="utf-8")
    dashboard = ["--address", "http://127.0.0.1:8265", "--working-dir", ".", "--runtime-env", "job.yaml"]
    up.run("job", [f"{BIN}/ray", "job", "submit", *dashboard, "--", "dvc", "repro", "finetune"], {}, timeout_s=400)


def scaled(up: Nodes) -> None:
    """Room for workers on nodes that an autoscaler has yet to bring, then in places that others hold."""
    up.start_scaled_head(workers=2, cpus=1)
    up.run("room", [sys.executable, "-c", ROOM], {}, timeout_s=120)


ROOM = """
import threading
import ray
from ray.util import placement_group, remove_placement_group
from components.nodes import wait_for_room

ray.init(log_to_driver=False)
wait_for_room(2, False, "training.workers")
print("there")
others = placement_group([{"CPU": 1}] * 2)
assert others.wait(30)
threading.Timer(3, remove_placement_group, [others]).start()
wait_for_room(2, False, "training.workers")
print("there again")
"""


SCENARIOS: Mapping[str, Callable[[Nodes], None]] = {
    "mistakes": mistakes,
    "training": training,
    "search": search,
    "lost": lost,
    "job": job,
    "scaled": scaled,
}


def main(scenario: str, workspace: Path) -> None:
    up_loopback = [["ip", "link", "set", "lo", "up"]]
    up_loopback += [["ip", "address", "add", f"10.9.0.{number}/32", "dev", "lo"] for number in range(1, 6)]
    Path("/tmp/ray").mkdir(exist_ok=True)
    for command in (*up_loopback, ["mount", "-t", "tmpfs", "tmpfs", "/tmp/ray"]):
        subprocess.run(command, check=True)
    with nodes(workspace) as up:
        if scenario != "scaled":
            up.start_head()
        SCENARIOS[scenario](up)
        print(json.dumps(up.found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
