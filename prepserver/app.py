"""Construction of the server from its settings."""

from importlib.metadata import version
from pathlib import Path

import structlog
from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from prepserver.accounts.authentication import Authenticator
from prepserver.accounts.budgets import Budgets
from prepserver.accounts.rate_limits import RateLimiter
from prepserver.accounts.tokens import Tokens, load_signing_key
from prepserver.accounts.users import Users
from prepserver.clock import Clock, SystemClock
from prepserver.config import Config, Secret, open_data_dir
from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.llama.options import LlamaOptions
from prepserver.engines.openai.endpoint import PREFIX, Endpoint
from prepserver.engines.scripted import ScriptedLanguageModel, ScriptedSpeechModel
from prepserver.engines.types import LanguageModel, SpeechModel
from prepserver.engines.whisper.model import WhisperModel
from prepserver.gateway.fallback import RetryPolicy
from prepserver.gateway.gateway import Gateway, GatewayPolicy
from prepserver.http import routes
from prepserver.http.errors import exception_handlers
from prepserver.http.interviews import InterviewController
from prepserver.http.rooms import reject_plain_http
from prepserver.http.services import Services
from prepserver.interview.interview import InterviewObject, InterviewSettings
from prepserver.interview.questions import bank
from prepserver.interview.questions.bank_files import add_bank_files
from prepserver.interview.stubs import InterviewStub, UserInterviewsStub
from prepserver.interview.user_interviews import UserInterviews
from prepserver.models.store import ModelStore
from prepserver.objects.instance import Kind
from prepserver.objects.registry import Registry
from prepserver.telemetry.call_log import CallLog, call_log_path
from prepserver.telemetry.metrics import Metrics

__all__ = ["VERSION", "create_app", "create_services"]

VERSION = version("prep-interview")

SCRIPTED = "scripted"
"""Name of the language and speech models that give canned replies."""

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 512 * 1024
"""Maximum size of a request body in bytes; two documents of `MAX_DOCUMENT` code points fit in
UTF-8."""


def create_services(config: Config, clock: Clock | None = None) -> Services:
    """Create all services of the server.

    Raises NotFound if a model is not installed, BadRequest if a setting is invalid, Unauthorized if
    the signing key is damaged, and StorageError if the disk fails.
    """
    clock = clock or SystemClock()
    questions = add_bank_files(bank.load_bank(), config.question_banks)
    data_dir = open_data_dir(config)
    rate_limiter = RateLimiter(
        data_dir / "ratelimit.sqlite",
        clock,
        limit=config.rate_limit,
        window=config.rate_window,
    )
    budgets = Budgets(
        data_dir / "budgets.sqlite",
        clock,
        tokens=config.token_budget,
        seconds=config.compute_budget,
        window=config.rate_window,
    )
    call_log = CallLog(
        call_log_path(data_dir),
        clock,
        keep_text=config.call_log_text,
        max_age=config.call_log_days * 86_400.0,
        max_bytes=round(config.call_log_megabytes * 1_000_000),
    )
    metrics = Metrics()
    gateway = Gateway(
        _create_language_model(config.model, config, clock),
        _create_speech_model(config.stt_model, config, clock),
        rate_limiter,
        clock,
        _gateway_policy(config),
        fallback=[_create_language_model(name, config, clock) for name in config.fallback],
        speech_fallback=[_create_speech_model(name, config, clock) for name in config.stt_fallback],
        budget=budgets,
        call_log=call_log,
        observers=(metrics.observe_call,),
    )
    settings = InterviewSettings(
        hint_after=config.hint_after, max_recording=config.max_recording, version=VERSION
    )
    kinds = (
        Kind(
            InterviewStub.kind,
            lambda context: InterviewObject(context, gateway, questions, settings),
            InterviewObject.migrations,
            handles_close=False,
        ),
        Kind(
            UserInterviewsStub.kind,
            lambda context: UserInterviews(context, VERSION),
            UserInterviews.migrations,
            handles_close=False,
        ),
    )
    return Services(
        clock=clock,
        registry=Registry(data_dir, kinds, clock),
        gateway=gateway,
        authenticator=Authenticator(
            Users(data_dir / "users.sqlite", clock),
            Tokens(load_signing_key(data_dir / "signing.key"), clock),
        ),
        rate_limiter=rate_limiter,
        budgets=budgets,
        call_log=call_log,
        metrics=metrics,
        metrics_access=config.metrics,
        version=VERSION,
    )


def create_app(services: Services) -> Litestar:
    """Create the HTTP application on `services`, which the caller starts and closes."""
    return Litestar(
        route_handlers=[*routes.HANDLERS, InterviewController, reject_plain_http],
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        exception_handlers=exception_handlers,
        openapi_config=OpenAPIConfig(
            title="prep", version=VERSION, path="/schema", render_plugins=[JsonRenderPlugin()]
        ),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
    )


def _gateway_policy(config: Config) -> GatewayPolicy:
    return GatewayPolicy(
        retries=RetryPolicy(
            limit=config.retries, delay=config.retry_delay, backoff=config.retry_backoff
        ),
        first_token_timeout=config.first_token_timeout,
        parallel=config.parallel,
        max_transcriptions=config.max_transcriptions,
        max_queue=config.max_queue,
        reply_cache_purposes=frozenset(config.reply_cache_purposes),
        reply_cache_ttl=config.reply_cache_ttl,
    )


def _create_language_model(name: str, config: Config, clock: Clock) -> LanguageModel:
    if name == SCRIPTED:
        return ScriptedLanguageModel(
            clock, delay=config.scripted_delay, words=config.scripted_words
        )
    if name.startswith(PREFIX):
        from prepserver.engines.openai.language import OpenAILanguageModel  # imports an HTTP client

        endpoint, key = _resolve_endpoint("interviewer", name, config)
        return OpenAILanguageModel(
            endpoint,
            clock,
            key=key,
            context=config.context,
            thinking_tokens=config.thinking_tokens,
        )
    path: Path = ModelStore(config.models_dir).resolve(name)
    options = LlamaOptions(
        path=str(path),
        n_ctx=config.context,
        n_threads=config.threads,
        parallel=config.parallel,
        n_gpu_layers=config.gpu_layers,
        flash_attention=config.flash_attention,
        cache_type=config.kv_cache_type,
        kv_store_dir=str(open_data_dir(config) / "kv"),
        kv_store_limit=config.kv_store_megabytes * 1_000_000,
    )
    return LlamaModel(options, clock)


def _create_speech_model(name: str, config: Config, clock: Clock) -> SpeechModel:
    if name == SCRIPTED:
        return ScriptedSpeechModel(clock, delay=config.scripted_delay)
    if name.startswith(PREFIX):
        from prepserver.engines.openai.speech import (
            OpenAISpeechModel,  # imports an HTTP client and numpy
        )

        endpoint, key = _resolve_endpoint("transcriber", name, config)
        return OpenAISpeechModel(endpoint, key=key)
    path: Path = ModelStore(config.models_dir).resolve(name)
    return WhisperModel(path, clock, engine=config.stt_engine, n_threads=config.threads)


def _resolve_endpoint(job: str, name: str, config: Config) -> tuple[Endpoint, str]:
    """Return a model's endpoint and API key, and log where candidates' data is sent.

    A key belongs to the first endpoint named in the settings. For any other endpoint the key is
    empty.
    """
    names = (config.stt_model, *config.stt_fallback)
    key = config.stt_openai_api_key
    if job == "interviewer" or not key:
        names, key = (config.model, *config.fallback, *names), config.openai_api_key
    endpoint = Endpoint.parse(name)
    owner = next(Endpoint.parse(each) for each in names if each.startswith(PREFIX))
    if owner.origin != endpoint.origin:
        key = Secret("")
    log.warning(
        "model.remote",
        job=job,
        endpoint=endpoint.origin,
        note="candidates' documents, answers or recordings are sent to this endpoint",
    )
    if key and not endpoint.private:
        log.warning("model.key_sent_unencrypted", job=job, endpoint=endpoint.origin)
    return endpoint, key
