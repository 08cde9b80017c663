"""What RayCluster and RayJob (ray.io/v1) may hold of what infra/kuberay uses, after KubeRay's API reference.

A key that is not here is refused, so that a misspelt one is noticed; pods are checked by kubernetes_validate. With
LEA_KUBERAY_CRDS (a folder with ray.io_rayclusters.yaml and ray.io_rayjobs.yaml of a release) KubeRay's own are used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

TEXT, WHOLE, YES_NO = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
POD = {
    "type": "object",
    "properties": {"spec": {"type": "object"}, "metadata": {"type": "object"}},
    "required": ["spec"],
}


def closed(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


START = {"type": "object", "additionalProperties": TEXT}  # options of `ray start`
CLUSTER = closed(
    ("headGroupSpec",),
    rayVersion=TEXT,
    enableInTreeAutoscaling=YES_NO,
    authOptions=closed(mode={"enum": ["disabled", "token"]}, secretName=TEXT, enableK8sTokenAuth=YES_NO),
    autoscalerOptions=closed(
        version={"enum": ["v1", "v2"]},
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        idleTimeoutSeconds=WHOLE,
        resources={"type": "object"},
    ),
    headGroupSpec=closed(("template",), rayStartParams=START, template=POD),
    workerGroupSpecs={
        "type": "array",
        "items": closed(
            ("groupName", "minReplicas", "maxReplicas", "template"),
            groupName=TEXT,
            replicas=WHOLE,
            minReplicas=WHOLE,
            maxReplicas=WHOLE,
            rayStartParams=START,
            template=POD,
        ),
    },
)
JOB = closed(
    entrypoint=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    backoffLimit=WHOLE,
    shutdownAfterJobFinishes=YES_NO,
    ttlSecondsAfterFinished=WHOLE,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    rayClusterSpec=CLUSTER,
)
OURS = {"RayCluster": CLUSTER, "RayJob": JOB}


def schema(kind: str) -> dict[str, Any]:
    """Of the spec of this kind."""
    folder = os.environ.get("LEA_KUBERAY_CRDS")
    if not folder:
        return OURS[kind]
    crd = yaml.safe_load((Path(folder) / f"ray.io_{kind.lower()}s.yaml").read_text("utf-8"))
    (version,) = [one for one in crd["spec"]["versions"] if one["name"] == "v1"]
    return _strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])


def _strict(node: Any) -> Any:
    """Kubernetes drops keys that a CRD does not name, in silence; here they are refused."""
    if isinstance(node, list):
        return [_strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    node = {key: _strict(value) for key, value in node.items()}
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(node.get("properties"), dict) and "type" in node:
        node.setdefault("additionalProperties", bool(node.get("x-kubernetes-preserve-unknown-fields")))
    return node
