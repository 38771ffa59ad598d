"""Creation of services: endpoints, API keys, and warnings about both."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from prepserver.app import create_services
from prepserver.config import Config, Secret
from prepserver.errors import BadRequest, InferenceError
from prepserver.telemetry.calls import Call
from prepserver.wire.error_codes import ErrorCode
from tests.support.loop import asynchronous

KEYS = {"openai_api_key": Secret("sk-one"), "stt_openai_api_key": Secret("sk-two")}
CALL = Call(purpose="question", user="u", interview="i", request="r")
ONE, OTHER = "openai:http://127.0.0.1:9/v1#a", "openai:http://127.0.0.1:10/v1#b"


def config(tmp_path: Path, **settings: Any) -> Config:
    return Config(
        **{"data_dir": tmp_path, "model": "scripted", "stt_model": "scripted", **settings}
    )


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"model": ONE}, [""]),
        ({"model": ONE, "openai_api_key": KEYS["openai_api_key"]}, ["sk-one"]),
        ({"stt_model": ONE, "openai_api_key": KEYS["openai_api_key"]}, ["sk-one"]),
        (
            {"model": ONE, "stt_model": ONE, "openai_api_key": KEYS["openai_api_key"]},
            ["sk-one"] * 2,
        ),
        (
            {"model": ONE, "stt_model": OTHER, "openai_api_key": KEYS["openai_api_key"]},
            ["sk-one", ""],
        ),
        ({"model": ONE, "stt_model": OTHER, **KEYS}, ["sk-one", "sk-two"]),
        ({"model": ONE, "stt_openai_api_key": KEYS["stt_openai_api_key"]}, [""]),
        ({"model": ONE, "fallback": (OTHER, ONE), **KEYS}, ["sk-one", "", "sk-one"]),
        ({"fallback": (OTHER,), "stt_fallback": (ONE,), **KEYS}, ["sk-one", "sk-two"]),
        ({"stt_model": OTHER, "stt_fallback": (ONE,), **KEYS}, ["sk-two", ""]),
    ],
)
@asynchronous
async def test_api_keys_are_sent_to_their_own_endpoint(
    settings: dict[str, Any], keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each API key is sent only to its own endpoint."""
    sent: list[str] = []

    class Client(httpx.AsyncClient):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            sent.append(self.headers.get("Authorization", "").removeprefix("Bearer "))

    monkeypatch.setattr(httpx, "AsyncClient", Client)
    with capture_logs() as logs:
        services = create_services(config(tmp_path, **settings))
    await services.start()
    await services.close()
    assert sent == keys
    warned = [each["endpoint"] for each in logs if each["event"] == "model.remote"]
    assert len(warned) == len(keys)
    assert "sk-" not in repr(logs)


@asynchronous
async def test_an_unencrypted_api_key_is_warned_about(tmp_path: Path) -> None:
    """Creating the services logs a warning if an API key would be sent over plain HTTP to another
    machine."""
    for address, warned in [("http://192.168.1.5/v1", True), ("https://ai.example/v1", False)]:
        with capture_logs() as logs:
            services = create_services(
                config(tmp_path, model=f"openai:{address}#a", openai_api_key=Secret("sk-one"))
            )
        await services.start()
        await services.close()
        assert ("model.key_sent_unencrypted" in [each["event"] for each in logs]) is warned


@pytest.mark.parametrize("job", ["model", "stt_model"])
def test_an_invalid_endpoint_name_is_rejected(job: str, tmp_path: Path) -> None:
    """Creating the services with an invalid endpoint name raises an error that shows the valid
    format."""
    with pytest.raises(BadRequest, match="openai:URL#NAME"):
        create_services(config(tmp_path, **{job: "openai:localhost"}))


@asynchronous
async def test_an_unreachable_endpoint_does_not_stop_the_start(tmp_path: Path) -> None:
    """The server starts with an unreachable endpoint, and a call to the endpoint raises
    `endpoint_unreachable`."""
    services = create_services(config(tmp_path, model=ONE))
    await services.start()
    with pytest.raises(InferenceError) as caught:
        await services.gateway.model_info(CALL)
    await services.close()
    assert caught.value.code == ErrorCode.ENDPOINT_UNREACHABLE
