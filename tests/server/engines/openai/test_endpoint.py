"""Parsing and validation of a remote model's address."""

import pytest

from prepserver.engines.openai.endpoint import Endpoint
from prepserver.errors import BadRequest
from prepserver.wire.error_codes import ErrorCode
from tests.server.engines.openai.fake_endpoint import KEY


def test_an_address_consists_of_a_url_and_a_name() -> None:
    """In an address, a # separates the URL from the model's name, and a trailing slash of the URL
    is removed."""
    endpoint = Endpoint.parse("openai:http://127.0.0.1:9000/v1/#meta/llama-3.1:8b")
    assert endpoint == Endpoint("http://127.0.0.1:9000/v1", "meta/llama-3.1:8b")
    assert endpoint.origin == "http://127.0.0.1:9000"
    assert Endpoint.parse("openai:https://ai.example.com").model == ""


@pytest.mark.parametrize(
    "text",
    [
        "openai:",
        "openai:#gpt",
        "openai:127.0.0.1:9000#gpt",
        "openai:ftp://host/v1#gpt",
        "openai:http:///v1#gpt",
        "openai:http://host:99999/v1#gpt",
        "openai:http://[::1/v1#gpt",
        "openai:http://host/v1?key=x#gpt",
        "openai:http://ho st/v1#gpt",
        "openai:http://höst/v1#gpt",
        "openai:http://host/v1\n#gpt",
    ],
)
def test_an_invalid_address_is_refused(text: str) -> None:
    """An invalid address is rejected with an error that shows the expected form."""
    with pytest.raises(BadRequest, match="openai:URL#NAME") as caught:
        Endpoint.parse(text)
    assert caught.value.code == ErrorCode.BAD_SETTING


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    """A URL with a password is rejected, and the error names the setting to use instead but does
    not contain the password."""
    with pytest.raises(BadRequest, match="openai_api_key") as caught:
        Endpoint.parse(f"openai:http://me:{KEY}@host/v1#gpt")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://ai.example.com/v1", True),
        ("http://127.0.0.1:9000/v1", True),
        ("http://localhost/v1", True),
        ("http://192.168.1.5/v1", False),
        ("http://127.evil.example/v1", False),
    ],
)
def test_an_endpoint_is_private_over_tls_or_loopback(url: str, private: bool) -> None:
    """An endpoint is private if and only if its URL uses https or a loopback address."""
    assert Endpoint.parse(f"openai:{url}#gpt").private is private
