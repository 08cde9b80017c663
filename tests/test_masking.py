import pytest

from components.masking import MASK, masked

SECRET = "pa55-w0rd"
ADDRESSES = [
    f"http://ada:{SECRET}@mlflow.example:5000/path",
    f"http://{SECRET}@mlflow.example",  # a token as the user
    f"postgresql+psycopg2://ada:{SECRET}@db/mlflow",
    f"s3://AKIA:{SECRET}@bucket/prefix",
    f"https://ada:{SECRET}/with/slash@host/v1",
    f"https://ada:at@{SECRET}@host/v1",
    f"https://bucket.example/file?X-Amz-Signature={SECRET}&X-Amz-Date=1",
    f"https://host/v1?api_key={SECRET}",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("text", ["{}", "MLflow at {} cannot be used: no answer", "('{}', 5)", '"{}"'])
def test_addresses_lose_their_secrets_and_keep_their_hosts(address: str, text: str) -> None:
    shown = masked(text.format(address))
    assert SECRET not in shown
    assert MASK in shown
    assert shown.startswith(text.partition("{}")[0])


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/path",
        "s3://bucket/prefix/file.json",
        "models:/lea@champion",
        "write to ada@example.com",
        "file:///home/ada/.lea/mlflow/artifacts",
        "sqlite:////home/ada/.lea/mlflow/mlflow.db",
        "http://host:5000/images/a@2x.png",
        "max_new_tokens=6 and a key without a value",
    ],
)
def test_what_holds_no_secret_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    ("name", "value", "quoted"),
    [
        ("OPENAI_API_KEY", f"sk-{SECRET}", f"401: incorrect key sk-{SECRET}"),
        ("OPENAI_API_KEY", f"sk-{SECRET}\n", f"Invalid header value b'Bearer sk-{SECRET}\\n'"),
        ("OPENAI_API_KEY", f"first-{SECRET}\nsecond-{SECRET}", f"b'Bearer first-{SECRET}\\nsecond-{SECRET}'"),
        ("MLFLOW_TRACKING_PASSWORD", SECRET, f"authentication failed for ada, {SECRET}"),
        ("AWS_SECRET_ACCESS_KEY", f"{SECRET}/+", f"signature of {SECRET}%2F%2B is wrong"),
        ("MLFLOW_TRACKING_URI", f"http://ada:{SECRET}%21@host", f"FATAL: password {SECRET}! is wrong"),
        ("OPENAI_BASE_URL", f"http://ada:{SECRET}@host/v1", f"no route with {SECRET}"),
    ],
)
def test_secrets_of_the_environment_are_masked_wherever_they_stand(
    name: str, value: str, quoted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert SECRET not in masked(quoted)
