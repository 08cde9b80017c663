"""The registered model through MLflow: every form of a request is answered, every mistake in one line with 4xx."""

import base64
import json
import os

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from PIL import Image

from components.tracking import store

ASK = "What is it?"


@pytest.fixture(scope="module")
def model(registered):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEA_HOME", str(registered.root / "home"))
        patch.chdir(registered.root)
        with store.fluent(store.tracking_uri()):
            yield mlflow.pyfunc.load_model("models:/lea/1")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "dish.png"
    Image.new("RGB", (40, 30), (200, 30, 60)).save(path)
    return path


@pytest.fixture(scope="module")
def text(picture):
    return base64.b64encode(picture.read_bytes()).decode()


def served(model, body, content_type="application/json"):
    """Status and answer of MLflow's scoring server."""
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    try:
        got = scoring_server.invocations(data, content_type, model, model.metadata.get_input_schema())
    except MlflowException as error:
        return error.get_http_status_code(), json.loads(error.serialize_as_json())
    return got.status, json.loads(got.response)


def test_all_forms_of_a_request_get_the_same_answer(model, picture, text):
    expected = model.predict([{"image": picture.read_bytes(), "prompt": ASK}])
    row = {"image": text, "prompt": ASK}
    for body in (
        {"dataframe_records": [row]},
        {"dataframe_split": {"columns": ["image", "prompt"], "data": [[text, ASK]]}},
        {"instances": [row]},
        {"inputs": [row]},
        {"inputs": {"image": [text], "prompt": [ASK]}},
    ):
        assert served(model, body) == (200, {"predictions": expected}), next(iter(body))
    assert served(model, row)[1] in (expected, expected[0])  # without a wrapper, as the unified form has it
    csv = f'prompt,image\n"{ASK}","data:image/png;base64,{text}"\n'
    assert served(model, csv, "text/csv") == (200, {"predictions": expected})
    without = served(model, f"image,prompt\n,{ASK}\n", "text/csv")
    assert without[1]["predictions"] == model.predict([{"image": None, "prompt": ASK}]) != expected


def test_a_misspelt_column_is_refused_and_not_dropped(model, text):
    """MLflow drops what the signature does not name: the answer would be one without the image."""
    for body, content_type, missing in (
        ({"dataframe_records": [{"img": text, "prompt": ASK}]}, "application/json", "no column image"),
        ({"inputs": [{"image": text, "question": ASK}]}, "application/json", "no column prompt"),
        ({"inputs": [ASK]}, "application/json", "no column image and no column prompt"),
        (f"Image,prompt\n{text},{ASK}\n", "text/csv", "no column image"),
        (f"image;prompt\n{text};{ASK}\n", "text/csv", "no column image and no column prompt"),
    ):
        status, answer = served(model, body, content_type)
        assert (status, missing in answer["message"]) == (400, True), answer
        assert "\n" not in answer["message"]


def test_parameters_are_obeyed_or_refused(model, text):
    row = {"image": text, "prompt": ASK}
    whole = served(model, {"inputs": [row]})[1]["predictions"][0]
    same_as_greedy = {"n": 1, "stop": [], "top_k": 1, "repetition_penalty": 1.0}
    for params in ({"max_new_tokens": 3}, {"max_tokens": 3, "temperature": 0.0}, {"max_completion_tokens": 3}):
        short = served(model, {"inputs": [row], "params": params})[1]["predictions"][0]
        assert len(short) < len(whole)
    assert served(model, {"inputs": [row], "params": same_as_greedy})[1]["predictions"] == [whole]
    for params, message in (
        ({"temperature": 0.7}, "temperature must be 0"),
        ({"top_p": 0.5}, "top_p must be 1"),
        ({"num_beams": 4}, "num_beams must be 1"),
        ({"do_sample": True}, "do_sample must be False"),
        ({"max_new_tokens": -1}, "max_new_tokens must be 1 to 1024"),
        ({"max_new_tokens": 10**6}, "max_new_tokens must be 1 to 1024"),
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 to 1024, got 0"),
        ({"max_tokens": 0}, "max_tokens must be 1 to 1024, got 0"),
        ({"max_tokens": 3, "max_new_tokens": 4}, "differ"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "differ"),
        ({"stop": ["."]}, "stop must be absent"),
        ({"n": 2}, "n must be 1"),
        ({"top_k": 5}, "top_k must be 1"),
        ({"repetition_penalty": 1.2}, "repetition_penalty must be 1"),
    ):
        status, answer = served(model, {"inputs": [row], "params": params})
        assert (status, message in answer["message"]) == (400, True), answer
        assert "\n" not in answer["message"]


def test_mistakes_are_400_with_one_line_and_nothing_of_the_server_is_opened(model, picture, text):
    other = base64.b64encode(b"no image at all").decode()
    for row, message in (
        ({"image": str(picture), "prompt": ASK}, "row 0: image must be base64"),
        ({"image": "/etc/passwd", "prompt": ASK}, "row 0: "),
        ({"image": f"file://{picture}", "prompt": ASK}, "none is fetched here"),
        ({"image": other, "prompt": ASK}, "row 0: image corrupt"),
        ({"image": text, "prompt": 3}, "row 0: prompt must be text"),
        ({"image": text, "prompt": "a" * 40_000}, "at most 32768 characters"),
        ({"image": text, "prompt": "a" * 30_000}, "the model has room for"),
        ({"image": text, "prompt": "\ud800"}, "surrogates not allowed"),
    ):
        status, answer = served(model, {"dataframe_records": [row]})
        assert (status, message in answer["message"]) == (400, True), answer
        assert "\n" not in answer["message"]
        assert "stack_trace" not in answer
        assert "root:" not in json.dumps(answer)


def test_one_request_has_a_price(model, text, monkeypatch):
    limits = model.unwrap_python_model().limits
    rows = [{"image": text, "prompt": ASK}] * 3
    for name, value, message in (
        ("max_rows", 2, "1 to 2 rows"),
        ("max_request_bytes", 10, "bytes; at most 10"),
        ("max_request_pixels", 1199, "1,200 pixels; at most 1,199"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(limits, name, value)
            assert message in served(model, {"inputs": rows})[1]["message"]
    assert served(model, {"inputs": rows})[0] == 200


def test_paths_are_read_where_the_loader_says_so(champion, picture):
    with store.fluent(store.tracking_uri()):
        model = mlflow.pyfunc.load_model("models:/lea/1", model_config={"allow_paths": True})
    by_bytes, by_path = model.predict(
        [{"image": picture.read_bytes(), "prompt": ASK}, {"image": os.fspath(picture), "prompt": ASK}]
    )
    assert by_bytes == by_path
