"""What the nodes of a cluster see and have, looked at on each of them before a run starts."""

from __future__ import annotations

import hashlib
import math
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.imports import code_digest
from components.shared_storage import SharedStorage, StorageError, shared_storage
from components.workspace import home

NEEDED = ("torch", "transformers", "peft", "deepspeed", "safetensors", "pyarrow", "fsspec")  # on each node
SAY_EVERY_S, ANSWER_WITHIN_S = 30.0, 180.0
SHARE = "or set LEA_STORAGE to a URL that all nodes reach (s3://.., file:///nfs/..)"
Node = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """A file that a node must see as this machine does."""

    path: str
    digest: str  # SHA-256 of the content
    what: str
    remedy: str


@dataclass(frozen=True)
class Looked:
    """What a node found."""

    node: str
    code: str
    lacks: list[str]  # packages
    unseen: list[Seen]
    other: list[Seen]  # seen, with another content
    storage: str  # why the storage cannot be used, or nothing


def this_node() -> str:
    """The name of the machine that this process runs on, with its address in the cluster."""
    import ray

    address = ray.util.get_node_ip_address()
    name = socket.gethostname()
    return name if name == address else f"{name} ({address})"


def look(seen: Sequence[Seen], storage: str | None, code: tuple[str, ...], mark: str) -> Looked:
    """Run on a node: what of `seen` it sees, whether it can read and write the storage, which code it imports."""
    import importlib.util

    unseen, other = [], []
    for each in seen:
        try:
            found = hashlib.sha256(Path(each.path).read_bytes()).hexdigest()
        except OSError:
            unseen.append(each)
            continue
        if found != each.digest:
            other.append(each)
    reason = ""
    if storage:
        try:
            _try_storage(SharedStorage(storage), mark)
        except StorageError as error:
            reason = str(error)
    lacks = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return Looked(this_node(), code_digest(*code), lacks, unseen, other, reason)


def _try_storage(storage: SharedStorage, mark: str) -> None:
    """StorageError where the driver's mark cannot be read, or none written beside it."""
    if storage.read(mark) is None:
        raise StorageError(f"{storage.url} is another place there than here: {mark}, just written, is missing")
    own = f"{mark}-{uuid.uuid4().hex[:8]}"
    storage.write(own, b"written")
    storage.remove(own)


def places(nodes: Sequence[Node], gpus: bool) -> list[Node]:
    """The nodes that can take workers: with a CPU, or a GPU where that is asked for."""
    return [node for node in nodes if node["Alive"] and node["Resources"].get("GPU" if gpus else "CPU", 0) > 0]


@contextmanager
def mark_of_home() -> Iterator[Seen]:
    """A file with a fresh word under home() for as long as nodes look for it."""
    folder = home()
    folder.mkdir(parents=True, exist_ok=True)
    file, word = folder / f".seen-{uuid.uuid4().hex[:12]}.partial", uuid.uuid4().bytes
    file.write_bytes(word)
    remedy = f"set LEA_HOME to a folder that all nodes share, {SHARE}"
    try:
        yield Seen(str(file), hashlib.sha256(word).hexdigest(), f"{folder} (run state)", remedy)
    finally:
        file.unlink(missing_ok=True)


def file_seen(path: Path, remedy: str) -> Seen:
    """A file of the workspace, to be seen by all nodes."""
    path = path.resolve()
    return Seen(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), str(path), remedy)


def check_nodes(
    files: Sequence[Path], storage: SharedStorage | None, gpus: bool, code: tuple[str, ...], here: bool = False
) -> None:
    """UserError, with the node's name and what to set, where a node of the cluster could not do its part.

    Args:
        files: what workers read of the workspace; not looked for where there is a storage.
        code: modules whose import closure must be the same on all nodes.
        here: the node of this process has a part too, whether or not it has a CPU for workers.
    """
    mark = f"marks/{uuid.uuid4().hex}"
    if storage is not None:
        storage.write(mark, b"written")
        try:
            _compare(_ask([], storage.url, gpus, here, code, mark), code)
        finally:
            storage.remove(mark)
        return
    remedy = f"put the repository on a disk that all nodes share, at the same path, {SHARE}"
    seen = [file_seen(path, remedy) for path in files]
    with mark_of_home() as own:
        _compare(_ask([own, *seen], None, gpus, here, code, mark), code)


def check_workspace(module: str, gpus: bool = False) -> None:
    """For work on the workspace's own files: UserError where a node of a cluster sees another workspace, or none."""
    if is_remote() and shared_storage() is None:
        check_nodes([Path("params.yaml")], None, gpus, (module,))


def _compare(answers: Sequence[Looked], code: tuple[str, ...]) -> None:
    """UserError for the first thing that keeps a node from doing its part."""
    mine = code_digest(*code)
    for found in answers:
        if found.lacks:
            raise UserError(
                f"worker on {found.node} lacks the packages {', '.join(found.lacks)}; install there what "
                "constraints.txt pins: pip install -c constraints.txt '.[pipeline]' in a copy of the repository"
            )
        if found.code != mine:
            raise UserError(
                f"worker on {found.node} runs other code of this project than this machine; remove the copy there "
                "that comes first in PYTHONPATH, or bring it to the same state"
            )
        if found.storage:
            raise UserError(f"worker on {found.node}: {found.storage}")
        for each in found.unseen[:1]:
            raise UserError(f"worker on {found.node} does not see {each.what}: {each.remedy}")
        for each in found.other[:1]:
            raise UserError(f"worker on {found.node} sees another {each.what} than this machine: {each.remedy}")


def _ask(
    seen: Sequence[Seen], storage: str | None, gpus: bool, here: bool, code: tuple[str, ...], mark: str
) -> list[Looked]:
    """`look` on each node that can take workers, and on this one where it has a part."""
    import ray
    from ray.exceptions import RayError, RuntimeEnvSetupError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = {}
    own = ray.get_runtime_context().get_node_id()
    workers = places(ray.nodes(), gpus)
    for node in [*workers, *(n for n in ray.nodes() if here and n["NodeID"] == own and n not in workers)]:
        there: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task: Any = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(look)
        asked[task.remote(seen, storage, code, mark)] = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
    answers, waiting, started = [], list(asked), time.monotonic()
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=SAY_EVERY_S)
        for each in done:
            try:
                answers.append(ray.get(each))
            except (RayError, ImportError) as error:
                why = "our code did not get there" if isinstance(error, RuntimeEnvSetupError) else "it cannot start"
                raise UserError(f"worker on {asked[each]}: {why}: {_last_line(error)}") from None
        names = ", ".join(asked[each] for each in waiting)
        if waiting and time.monotonic() - started > ANSWER_WITHIN_S:
            away = f"{storage} may be unreachable from there; " if storage else ""
            raise UserError(
                f"worker on {names} does not answer within {ANSWER_WITHIN_S:.0f} s; {away}see that node's Ray logs"
            )
        if waiting:
            print(f"cluster: waiting for {names} to answer", flush=True)
    return answers


def _last_line(error: BaseException) -> str:
    cause = getattr(error, "cause", None) or error
    return ([line for line in str(cause).strip().splitlines() if line.strip()] or [type(cause).__name__])[-1].strip()


def wait_for_room(num_workers: int, gpus: bool, setting: str, share: float = 1.0) -> None:
    """Wait until the cluster has room for so many workers, with a line at once and each 30 s.

    The room is asked for by a placement group, given back when it is there: an autoscaler brings nodes only for what
    somebody asks for. UserError where the cluster holds too little in all and has no autoscaler.
    """
    import ray
    from ray.util import placement_group, remove_placement_group

    kind = "GPU" if gpus else "CPU"
    asked = None
    try:
        while True:
            total = room(places(ray.nodes(), gpus), kind, share)
            scales = total < num_workers
            most = max(total, autoscaled(kind, share)) if scales else total
            if most < num_workers:
                raise UserError(
                    f"params.yaml: {setting} asks for {num_workers} workers of a {kind} each, but the cluster has room "
                    f"for {most}: lower it, or add nodes"
                )
            free = room([{"Resources": each} for each in _free()], kind, share)
            if asked is None and free >= num_workers:
                return
            more = "; its autoscaler is asked for more, up to the limits set for it" if scales else ""
            print(f"cluster: waiting for room for {num_workers} workers: {free} of {total} are free{more}", flush=True)
            asked = asked or placement_group([{kind: share}] * num_workers)
            if asked.wait(SAY_EVERY_S):
                return
    finally:
        if asked is not None:
            remove_placement_group(asked)


def room(nodes: Sequence[Node], kind: str, share: float = 1.0) -> int:
    """Workers that fit, each with `share` of a CPU or GPU."""
    return sum(int(node["Resources"].get(kind, 0) / share + 1e-9) for node in nodes)


def autoscaled(kind: str, share: float = 1.0) -> float:
    """Workers that fit once the cluster's autoscaler (version 2) has brought all it may; 0 where there is none.

    Infinite where Ray does not know its limits, which only some platforms state.
    """
    from ray._private.state import state
    from ray._raylet import GCS_AUTOSCALER_STATE_NAMESPACE, GCS_AUTOSCALER_V2_ENABLED_KEY  # pyright: ignore
    from ray.experimental.internal_kv import _internal_kv_get

    stated = state.get_max_resources_from_cluster_config()
    if stated:
        return int(stated.get(kind, 0) / share + 1e-9)
    key, namespace = GCS_AUTOSCALER_V2_ENABLED_KEY.encode(), GCS_AUTOSCALER_STATE_NAMESPACE.encode()
    return math.inf if _internal_kv_get(key, namespace=namespace) == b"1" else 0


def _free() -> list[Mapping[str, float]]:
    from ray._private.state import available_resources_per_node

    return list(available_resources_per_node().values())


def is_remote() -> bool:
    """Whether runs go to a cluster that somebody else has started."""
    return os.environ.get("RAY_ADDRESS", "local") not in ("", "local")
