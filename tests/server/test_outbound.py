"""Proxies and certificates in the environment."""

import os
from pathlib import Path

import pytest

from prepserver.outbound import RouteError, find_route

URL = "https://prep.example:8400"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove proxies and certificates of the machine that runs the tests."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("SSL_CERT_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("HTTP://proxy", "http://proxy:80"),
        ("proxy:3128", "http://proxy:3128"),
        (" http://proxy:3128/ ", "http://proxy:3128"),
        ("https://proxy", "https://proxy:443"),
        ("socks://127.0.0.1:1080", "socks5h://127.0.0.1:1080"),
        ("socks://127.0.0.1:1080/", "socks5h://127.0.0.1:1080"),
        ("socks5://proxy", "socks5h://proxy:1080"),
        ("socks5h://[::1]:9", "socks5h://[::1]:9"),
        ("http://ada:p%40ss@proxy:1", "http://ada:p%40ss@proxy:1"),
        ("http://ada:p@ss@proxy:1", "http://ada:p%40ss@proxy:1"),
        ("http://ada@proxy:1", "http://ada:@proxy:1"),
        ("http://bücher.example:1", "http://xn--bcher-kva.example:1"),
    ],
)
def test_proxy_is_used_as_people_write_it(
    monkeypatch: pytest.MonkeyPatch, value: str, url: str
) -> None:
    """A proxy may lack a scheme or a port, contain a user, or be written as GNOME does."""
    monkeypatch.setenv("ALL_PROXY", value)
    proxy = find_route(URL).proxy
    assert proxy is not None
    assert proxy.url == url
    assert proxy.description.endswith(" of ALL_PROXY")
    assert "@" not in proxy.description
    find_route(URL).make_transport()


@pytest.mark.parametrize(
    "value",
    [
        "socks4://proxy:1080",
        "ftp://proxy",
        "://proxy",
        "http://",
        "http:/proxy:3128",
        "http://proxy:port",
        "http://proxy:99999",
        "http://ada:secret/@proxy",
        "http://ada:secret@pro xy:1",
        "http://proxy/proxy.pac",
        "pac+http://proxy/secret.pac",
        "http://[::1",
        "http://..:1",
        "http://\udcff:1",
        "DIRECT secret",
    ],
)
def test_unusable_proxy_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """RouteError names the variable, and never the user or the password in it."""
    monkeypatch.setenv("https_proxy", value)
    with pytest.raises(RouteError, match="https_proxy") as raised:
        find_route(URL)
    assert "secret" not in str(raised.value)
    assert "ada" not in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "url", "source"),
    [
        ({"HTTP_PROXY": "a", "HTTPS_PROXY": "b"}, "https://prep.example", "HTTPS_PROXY"),
        ({"HTTP_PROXY": "a", "HTTPS_PROXY": "b"}, "wss://prep.example", "HTTPS_PROXY"),
        ({"HTTP_PROXY": "a", "HTTPS_PROXY": "b"}, "ws://prep.example", "HTTP_PROXY"),
        ({"ALL_PROXY": "a", "HTTPS_PROXY": "b"}, "http://prep.example", "ALL_PROXY"),
        ({"https_proxy": "a", "HTTPS_PROXY": "b"}, "https://prep.example", "https_proxy"),
        ({"All_Proxy": "a"}, "https://prep.example", "All_Proxy"),
        ({"HTTPS_PROXY": "", "ALL_PROXY": "a"}, "https://prep.example", "ALL_PROXY"),
        ({"HTTP_PROXY": "a"}, "https://prep.example", None),
        ({"ALL_PROXY": "a"}, "https://localhost:8443", None),
        ({"ALL_PROXY": "a"}, "http://127.0.0.1:8400", None),
        ({"ALL_PROXY": "socks4://a"}, "ws://[::1]:8400", None),
        ({}, "https://prep.example", None),
    ],
)
def test_requests_and_rooms_use_the_same_proxy(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, source: str | None
) -> None:
    """The proxy depends on whether the connection has TLS; this machine is reached without one."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxy = find_route(url).proxy
    assert (proxy.description.split()[-1] if proxy else None) == source


@pytest.mark.parametrize(
    ("entries", "host", "excluded"),
    [
        ("*", "prep.example", True),
        ("a, *", "prep.example", True),
        ("prep.example", "prep.example", True),
        ("PREP.Example", "prep.example", True),
        ("example", "prep.example", True),
        (".example", "prep.example", True),
        ("*.example", "prep.example", True),
        ("localhost,127.0.0.0/8,::1,.example", "prep.example", True),
        ("a b prep.example", "prep.example", True),
        ("a;prep.example;", "prep.example", True),
        ("prep.example:443", "prep.example", True),
        ("https://prep.example/", "prep.example", True),
        ("prep.example:80", "prep.example", False),
        ("rep.example", "prep.example", False),
        ("prep.example.org", "prep.example", False),
        ("::1/128", "prep.example", False),
        ("[::1]", "prep.example", False),
        ("[::1]:8400,[,],:,.,/,%,http://,a:b:c,::/x", "prep.example", False),
        ("", "prep.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("fd00::/8", "[fd00::1]", True),
        ("[fd00::1]", "[fd00::1]", True),
        ("[fd00::1]:443", "[fd00::1]", True),
        ("fd00:0::1", "[fd00::1]", True),
        ("10.0.0.0/8", "[fd00::1]", False),
    ],
)
def test_no_proxy_is_read_as_people_write_it(
    monkeypatch: pytest.MonkeyPatch, entries: str, host: str, excluded: bool
) -> None:
    """NO_PROXY contains names, addresses and networks, separated by commas or spaces; other entries
    are ignored."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", entries)
    assert (find_route(f"https://{host}").proxy is None) == excluded


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "No such file"), (b"text", "not a file of cert"), (b"", "not a file of cert")],
)
def test_unusable_certificate_file_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    """RouteError names SSL_CERT_FILE if the file is missing, empty or of another format."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(RouteError, match=rf"SSL_CERT_FILE.*ca\.pem.*{problem}"):
        find_route(URL)


def test_missing_certificate_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """RouteError names SSL_CERT_DIR if none of its folders exists; empty variables are ignored."""
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", f"{tmp_path / 'missing'}{os.pathsep}{tmp_path}")
    find_route(URL)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "missing"))
    with pytest.raises(RouteError, match=r"SSL_CERT_DIR.*missing"):
        find_route(URL)
