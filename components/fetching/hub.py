"""The files of a repository of the Hugging Face hub, or of a mirror of it (HF_ENDPOINT), at one commit."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.fetching.catalogue import Hub, inside
from components.fetching.download import Wanted

# Of a model: weights, configuration, tokenizer, licence. Pickled weights only where there are no others.
_OF_A_MODEL = ("*.safetensors", "*.json", "*.model", "*.txt", "LICENSE*", "*.md")
_PICKLED = "pytorch_model*.bin"
_TIMEOUT_S = 60.0


def files_of(hub: Hub, folder: Path) -> list[Wanted]:
    """What is to be fetched into `folder`, with sizes and digests as the hub states them."""
    from huggingface_hub import HfApi, get_token, hf_hub_url

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    info = _info(HfApi(endpoint=endpoint), hub, endpoint)
    listed = {sibling.rfilename: sibling for sibling in info.siblings or []}
    missing = [name for name in hub.files if name not in listed]
    if missing:
        raise UserError(f"{endpoint}: {hub.repository} has no {missing[0]}")
    wanted = []
    for name in hub.files or _of_a_model(list(listed)):
        try:
            inside(name)
        except ValueError as error:
            raise UserError(f"{endpoint}: {hub.repository} lists a bad name: {error}") from None
        url = hf_hub_url(hub.repository, name, repo_type=hub.kind, revision=info.sha, endpoint=endpoint)
        one = listed[name]
        sha256 = one.lfs.sha256 if one.lfs else None
        blob = None if sha256 else one.blob_id
        wanted.append(Wanted(folder / name, url, one.size, sha256, blob, token=get_token()))
    return wanted


def _info(api: Any, hub: Hub, endpoint: str) -> Any:
    import httpx2 as httpx
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return api.repo_info(hub.repository, repo_type=hub.kind, files_metadata=True, timeout=_TIMEOUT_S)
    except httpx.TransportError as error:
        what = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"{endpoint} cannot be reached ({what}); check the network, or name a mirror: HF_ENDPOINT=https://.."
        ) from None
    except (HfHubHTTPError, httpx.HTTPError, ValueError) as error:
        what = " ".join(str(error).split())[:160]
        raise UserError(f"{endpoint} does not list {hub.repository} ({what}); name a mirror: HF_ENDPOINT") from None


def _of_a_model(names: list[str]) -> list[str]:
    chosen = [name for name in names if any(fnmatch(name, pattern) for pattern in _OF_A_MODEL)]
    if not any(name.endswith(".safetensors") for name in chosen):
        chosen += [name for name in names if fnmatch(name, _PICKLED)]
    return chosen
