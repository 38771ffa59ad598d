"""Which models the settings lead to."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from prepserver.app import create_services
from prepserver.config import Config, Secret
from prepserver.errors import BadRequest, InferenceError
from prepserver.wire.error_codes import ErrorCode
from tests.support.loop import asynchronous

KEYS = {"openai_api_key": Secret("sk-one"), "stt_openai_api_key": Secret("sk-two")}
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
async def test_each_endpoint_gets_its_own_key(
    settings: dict[str, Any], keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key meant for one address is not sent to another."""
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
    warned = [each["endpoint"] for each in logs if each["event"] == "model.elsewhere"]
    assert len(warned) == len(keys)
    assert "sk-" not in repr(logs)


@asynchronous
async def test_a_key_that_anybody_on_the_way_can_read_is_warned_of(tmp_path: Path) -> None:
    """Plain HTTP to another machine carries it in the clear."""
    for address, warned in [("http://192.168.1.5/v1", True), ("https://ai.example/v1", False)]:
        with capture_logs() as logs:
            services = create_services(
                config(tmp_path, model=f"openai:{address}#a", openai_api_key=Secret("sk-one"))
            )
        await services.start()
        await services.close()
        assert ("model.key_in_the_clear" in [each["event"] for each in logs]) is warned


@pytest.mark.parametrize("job", ["model", "stt_model"])
def test_an_address_that_is_none_stops_the_start(job: str, tmp_path: Path) -> None:
    """With an error that says what an address looks like."""
    with pytest.raises(BadRequest, match="openai:URL#NAME"):
        create_services(config(tmp_path, **{job: "openai:localhost"}))


@asynchronous
async def test_an_endpoint_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    """The server starts; whoever wants a question is told why there is none."""
    services = create_services(config(tmp_path, model=ONE))
    await services.start()
    with pytest.raises(InferenceError) as caught:
        await services.gateway.model_info()
    await services.close()
    assert caught.value.code == ErrorCode.ENDPOINT_UNREACHABLE
