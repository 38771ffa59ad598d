"""Construction of the server from its settings."""

from importlib.metadata import version

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
from prepserver.config import Config, open_data_dir
from prepserver.engines.hardware import usable_memory
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
from prepserver.model_sets import create_fetch, create_source
from prepserver.objects.instance import Kind
from prepserver.objects.registry import Registry
from prepserver.telemetry.call_log import CallLog, call_log_path
from prepserver.telemetry.metrics import Metrics
from prepserver.wire.protocol import ModelsFetched

__all__ = ["VERSION", "create_app", "create_services"]

VERSION = version("prep-interview")

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
        create_source(config, clock),
        rate_limiter,
        clock,
        _gateway_policy(config),
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
            lambda context: UserInterviews(
                context, VERSION, gateway.choose_set, lambda: fetch.state if fetch else None
            ),
            UserInterviews.migrations,
            handles_close=False,
        ),
    )
    registry = Registry(data_dir, kinds, clock)
    fetch = create_fetch(
        config,
        clock,
        lambda state: registry.broadcast(UserInterviewsStub.kind, ModelsFetched(fetch=state)),
    )
    return Services(
        clock=clock,
        registry=registry,
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
        fetch=fetch,
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
        memory=config.models_memory * 1_000_000 or usable_memory() // 2,
        reply_cache_purposes=frozenset(config.reply_cache_purposes),
        reply_cache_ttl=config.reply_cache_ttl,
    )
