"""What a registered model takes through MLflow: columns, parameters, and the settings of whoever loads it."""

from __future__ import annotations

from typing import Any

# Changed where the model is loaded, by `model_config=` or MLFLOW_PYFUNC_INFERENCE_CONFIG (JSON); never by a request.
MODEL_CONFIG = {
    "allow_paths": False,  # an image may be the path of a file here; for use without a server
    "max_rows": 1024,  # of one request
    "max_request_bytes": 64_000_000,  # of all images of a request, as they are encoded
    "max_request_pixels": 200_000_000,  # of all images of a request, decoded
    "max_new_tokens_limit": 1024,  # what a request may ask for
}


def signature(max_new_tokens: int) -> Any:
    """An optional text `image` and the text `prompt`; parameters for greedy answers, other decoding is refused.

    `image` may hold bytes in Python. It is no column of any type, for MLflow reads no CSV into such a one. MLflow drops
    parameters that are not named here before a model sees them, so the usual ones are named, also to refuse them.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    asked = Schema([ColSpec("string", "image", required=False), ColSpec("string", "prompt", required=False)])
    params = ParamSchema(
        [
            ParamSpec("max_new_tokens", "long", max_new_tokens),
            ParamSpec("max_tokens", "long", None),
            ParamSpec("max_completion_tokens", "long", None),
            ParamSpec("temperature", "double", 0.0),
            ParamSpec("top_p", "double", 1.0),
            ParamSpec("do_sample", "boolean", False),
            ParamSpec("num_beams", "long", 1),
            ParamSpec("n", "long", 1),
            ParamSpec("top_k", "long", None),
            ParamSpec("repetition_penalty", "double", 1.0),
            ParamSpec("stop", "string", [], shape=(-1,)),
        ]
    )
    return ModelSignature(asked, Schema([ColSpec("string")]), params)
