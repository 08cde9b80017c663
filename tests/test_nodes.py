"""What is said of a node that could not do its part, and of a cluster that is too small."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components import nodes
from components.errors import UserError
from components.nodes import Looked, Seen, look

CODE = ("components.digests",)
GOOD = Looked("node-7 (10.0.0.7)", "", [], [], [], "")
HOME = Seen(
    "/home/me/.lea/seen", "0" * 64, "/home/me/.lea (run state)", "set LEA_HOME to a folder that all nodes share"
)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"unseen": [HOME]}, r"worker on node-7 \(10.0.0.7\) does not see /home/me/.lea \(run state\): set LEA_HOME"),
        ({"other": [HOME]}, "worker on node-7 .* sees another /home/me/.lea"),
        ({"lacks": ["deepspeed"]}, "worker on node-7 .* lacks the packages deepspeed; install there"),
        ({"code": "other"}, "worker on node-7 .* runs other code of this project than this machine"),
        ({"storage": "no credentials for s3://b/lea"}, r"worker on node-7 \(10.0.0.7\): no credentials for s3://b/lea"),
    ],
)
def test_a_node_is_named_with_what_it_lacks(changes: dict[str, Any], line: str) -> None:
    good = replace(GOOD, code=nodes.code_digest(*CODE))
    nodes._compare([good], CODE)
    with pytest.raises(UserError, match=line):
        nodes._compare([good, replace(good, **changes)], CODE)


def test_a_file_is_compared_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "this_node", lambda: "here")
    file = tmp_path / "manifest.json"
    file.write_text("one")
    right = Seen(str(file), hashlib.sha256(b"one").hexdigest(), "manifest", "mend it")
    wrong, missing = replace(right, digest="0" * 64), replace(right, path=str(tmp_path / "none"))
    found = look([right, wrong, missing], None, CODE, "")
    assert (found.unseen, found.other, found.lacks) == ([missing], [wrong], [])


def clustered(monkeypatch: pytest.MonkeyPatch, total: Sequence[dict[str, float]], most: float = 0) -> None:
    """A cluster with nodes of these resources, all free. most: workers that its autoscaler may bring."""
    import ray

    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": each} for each in total])
    monkeypatch.setattr(nodes, "autoscaled", lambda kind, share: most)
    monkeypatch.setattr(nodes, "_free", lambda: total)


def test_a_cluster_that_is_too_small_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clustered(monkeypatch, [{"CPU": 0}, {"CPU": 2}, {"CPU": 1}])
    nodes.wait_for_room(3, False, "training.workers")
    with pytest.raises(UserError, match=r"training.workers asks for 4 workers .* has room for 3: lower it"):
        nodes.wait_for_room(4, False, "training.workers")
    with pytest.raises(UserError, match=r"1 workers of a GPU each, but the cluster has room for 0"):
        nodes.wait_for_room(1, True, "training.workers")


def test_more_than_an_autoscaler_may_bring_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clustered(monkeypatch, [{"CPU": 0}], most=4)
    with pytest.raises(UserError, match=r"training.workers asks for 5 workers .* has room for 4: lower it"):
        nodes.wait_for_room(5, False, "training.workers")


def test_a_node_that_is_silent_may_not_reach_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    node = {"NodeID": "7" * 56, "NodeManagerHostname": "node-7", "NodeManagerAddress": "10.0.0.7"}
    monkeypatch.setattr(ray, "nodes", lambda: [{**node, "Alive": True, "Resources": {"CPU": 1}}])
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "here"))
    monkeypatch.setattr(ray, "remote", lambda **_: lambda task: SimpleNamespace(remote=lambda *_: "asked"))
    monkeypatch.setattr(ray, "wait", lambda waiting, **_: ([], waiting))
    monkeypatch.setattr(nodes, "ANSWER_WITHIN_S", 0.0)
    line = (
        r"node-7 \(10.0.0.7\) does not answer within 0 s; s3://b/lea may be unreachable from there; see that node's Ray"
    )
    with pytest.raises(UserError, match=line):
        nodes._ask([], "s3://b/lea", False, False, CODE, "marks/x")
