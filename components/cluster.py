"""Ray: the cluster that RAY_ADDRESS names, or one on this machine that listens on the loopback interface alone.

Of a cluster of several machines the ports must be open between them: a firewall, not this program, keeps others out.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import components
from components.code_package import pack
from components.errors import UserError
from components.shared_storage import addresses, shared_storage

PACKAGE_ROOT = Path(components.__file__).parent.parent  # workers start elsewhere and import from here
LOOPBACK_ONLY = {  # read when Ray and gloo open their ports; what the user has set stays
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # as on these systems, a Ray that `ray.init` starts gets no other address
    "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
}
LOST_NODE = re.compile(r"address: (\S+) .*has been marked dead")
PLAIN_GRPC = [("grpc.enable_http_proxy", 0)]
ANSWER_WITHIN_S = 20.0  # Ray itself tries for a quarter of an hour, and then ends the process


def start_ray(cpus: int, environment: dict[str, str], on_disk: bool = False) -> None:
    """Join the cluster of RAY_ADDRESS, or start one on this machine with at least `cpus` logical CPUs.

    `on_disk`: for work on the files of this machine, which stays here where the nodes share none (LEA_STORAGE).
    """
    address, storage = os.environ.get("RAY_ADDRESS"), shared_storage()  # a wrong LEA_STORAGE ends here, before the work
    if on_disk and storage:
        address = None
    if address:
        check_cluster(address)
        environment = {name: value for name, value in environment.items() if name != "PYTHONPATH"} | addresses()
        os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")  # inside `ray job submit` ours goes over the job's
    else:
        environment = stay_on_loopback() | environment
    import ray
    from ray.exceptions import AuthenticationError

    _say_of_nodes_only_what_matters()
    local: dict[str, Any] = {"num_cpus": max(cpus, os.cpu_count() or 1), "include_dashboard": False}
    with tempfile.TemporaryDirectory(prefix="lea-") as folder:
        modules = {"py_modules": _code(Path(folder))} if address else {}
        try:
            ray.init(
                address=address or "local",  # without a word Ray would join what another `ray start` here began
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": environment, **modules},
                **({} if address else local),
            )
        except (AuthenticationError, ConnectionError, ValueError, RuntimeError) as error:
            if not address:
                raise
            is_token = isinstance(error, AuthenticationError) or "oken auth" in str(error)
            reason = str(error).strip().partition("\n")[0]
            raise UserError((_wrong_token if is_token else _no_cluster)(address, reason)) from None


def _say_of_nodes_only_what_matters() -> None:
    """Ray prints what befalls nodes with pages of their logs, whatever `log_to_driver` says; here it is a line.

    A private name, as there is no setting for it; LEA_VERBOSE=1 lets Ray print.
    """
    from ray._private import worker

    if os.environ.get("LEA_VERBOSE") or not hasattr(worker, "print_to_stdstream"):
        return

    def say(data: dict[str, Any], **_: object) -> None:
        lost = LOST_NODE.search(" ".join(data.get("lines", [])))
        if lost:
            print(f"cluster: the node {lost[1]} was lost", flush=True)

    worker.print_to_stdstream = say  # pyright: ignore[reportAttributeAccessIssue]


def _code(folder: Path) -> list[str]:
    """Pack our code for the nodes, which need have none of their own; prints what goes there."""
    tops, size = pack(folder)
    print(f"cluster: sending our code to the nodes: {tops[0].parent.name}, {size / 1e6:.1f} MB", flush=True)
    return [str(top) for top in tops]


def check_cluster(address: str) -> None:
    """UserError within a minute where no Ray answers at HOST:PORT or ray://HOST:PORT."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"RAY_ADDRESS must be HOST:PORT, got {address!r}; unset it to run locally")
    host = host.strip("[]")
    deadline = time.monotonic() + ANSWER_WITHIN_S
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_WITHIN_S):
            pass
    except OSError as error:
        raise UserError(_no_cluster(address, (error.strerror or str(error)).lower())) from None
    except UnicodeError:  # a part of a name is empty or longer than names may be
        raise UserError(_no_cluster(address, "that is no name of a host")) from None
    if os.environ.get("RAY_USE_TLS", "0") == "0" and not _speaks_grpc(host, port, deadline - time.monotonic()):
        raise UserError(_no_cluster(address, "what listens there does not answer as Ray does"))
    if os.environ.get("RAY_USE_TLS", "0") == "0" and not address.startswith("ray://"):
        refusal = _token_refused(host, port)
        if refusal:
            raise UserError(_wrong_token(address, refusal))


def stay_on_loopback() -> dict[str, str]:
    """Let the Ray that this process is about to start listen on 127.0.0.1 alone; the variables for its workers."""
    for name, value in LOOPBACK_ONLY.items():
        os.environ.setdefault(name, value)
    loaded = sys.modules.get("ray._private.ray_constants")
    if loaded is not None and os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0":
        loaded.ENABLE_RAY_CLUSTER = False  # pyright: ignore[reportAttributeAccessIssue]
    return {"GLOO_SOCKET_IFNAME": os.environ["GLOO_SOCKET_IFNAME"]}


def is_on_loopback() -> bool:
    """Whether the Ray that is up lives on this machine alone."""
    import ray

    return ray.util.get_node_ip_address().startswith("127.")


def worker_environment(use_gpu: bool, threads: int) -> dict[str, str]:
    """Environment variables that a worker process needs before it imports torch or DeepSpeed."""
    shared = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": import_path()}
    return {**shared, **gpu_environment()} if use_gpu else {**shared, "DS_ACCELERATOR": "cpu"}


def import_path() -> str:
    """PYTHONPATH of workers on this machine: our code first, then what the user's own names."""
    theirs = [str(Path(place).absolute()) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    return os.pathsep.join([str(PACKAGE_ROOT), *theirs])


def gpu_environment() -> dict[str, str]:
    """torch's allocator with segments that grow; what the user has set stays.

    Blocks of fixed segments fit one batch's lengths and lie idle for another's: half as much again as what is in use.
    """
    name = "PYTORCH_CUDA_ALLOC_CONF"
    return {name: os.environ.get(name, "expandable_segments:True")}


def _speaks_grpc(host: str, port: str, timeout_s: float) -> bool:
    import grpc

    with grpc.insecure_channel(_place(host, port), options=PLAIN_GRPC) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=max(1.0, timeout_s))
        except grpc.FutureTimeoutError:
            return False
    return True


def _token_refused(host: str, port: str) -> str | None:
    """Why Ray would refuse this machine's token, or its lack of one: Ray itself tries for long, and logs each try."""
    import grpc
    from ray import _raylet  # there is no public way to read which token Ray would send

    loader: Any = getattr(_raylet, "AuthenticationTokenLoader").instance()  # noqa: B009 its stub does not know it
    asked = os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"
    given = asked and loader.has_token(ignore_auth_mode=True)
    headers = [("authorization", f"Bearer {loader.get_raw_token(ignore_auth_mode=True)}")] if given else []
    with grpc.insecure_channel(_place(host, port), options=PLAIN_GRPC) as channel:
        call: Any = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        try:
            call(b"", metadata=headers, timeout=10)
        except grpc.RpcError as error:
            code = getattr(error, "code", lambda: None)()
            if code == grpc.StatusCode.UNAUTHENTICATED:
                return "it refuses the token given" if given else "it asks for a token, and none is given"
    return None


def _place(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _no_cluster(address: str, reason: str) -> str:
    return f"no Ray cluster answers at RAY_ADDRESS={address}: {reason}; start it, or unset RAY_ADDRESS to run locally"


def _wrong_token(address: str, reason: str) -> str:
    return (
        f"the Ray cluster at RAY_ADDRESS={address} and this machine do not agree on a token ({reason[:160]}); set "
        "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token, or RAY_AUTH_MODE=disabled where it has none"
    )
