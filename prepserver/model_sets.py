"""Sets of models that the server offers, and the engines of their models.

Settings that name models form one set, `custom`, and the server offers no other. Otherwise the
server offers the installed sets of the catalogue.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from prepserver.clock import Clock
from prepserver.config import Config, Secret, open_data_dir
from prepserver.engines.hardware import usable_cores, usable_memory
from prepserver.engines.llama.model import LlamaModel
from prepserver.engines.llama.options import LlamaOptions
from prepserver.engines.openai.endpoint import PREFIX, Endpoint
from prepserver.engines.scripted import ScriptedLanguageModel, ScriptedSpeechModel
from prepserver.engines.types import LanguageModel, SpeechModel
from prepserver.engines.whisper.model import WhisperModel
from prepserver.errors import BadRequest, PrepServerError
from prepserver.gateway.pool import FixedSet, ModelSource, SetModels
from prepserver.models.background import BackgroundFetch
from prepserver.models.catalogue import ModelSet
from prepserver.models.sets import Machine, choose_set, find_obstacle, is_set_installed
from prepserver.models.store import ModelStore
from prepserver.wire.error_codes import ErrorCode
from prepserver.wire.protocol import ModelFetch

__all__ = ["InstalledSets", "create_fetch", "create_source", "this_machine", "wanted_models"]

SCRIPTED = "scripted"
"""Name of the language and speech models that give canned replies."""

log = structlog.get_logger(__name__)


def this_machine() -> Machine:
    """Return the memory and the cores that this process may use."""
    return Machine(memory=usable_memory(), cores=usable_cores())


def create_source(config: Config, clock: Clock) -> ModelSource:
    """Return the source of the sets that the settings describe.

    Raises ModelNotFound if a named model is not installed, ModelError if it is damaged, and
    BadRequest if an endpoint or the name of a set is invalid.
    """
    if names_models(config):
        return FixedSet(_create_models(_named_models(config), config, clock))
    return InstalledSets(config, clock, this_machine())


def names_models(config: Config) -> bool:
    """Return True if the settings name models instead of leaving them to a set."""
    return bool(config.model or config.stt_model or config.fallback or config.stt_fallback)


def wanted_models(config: Config) -> tuple[str, ...]:
    """Return the names of the models that the server loads when it starts."""
    if names_models(config):
        language, speech = _named_models(config)
        return (*language, *speech)
    source = InstalledSets(config, None, this_machine())
    chosen = find_set(source.store, source.resolve(""))
    return (chosen.language, chosen.speech)


def create_fetch(
    config: Config, clock: Clock, on_change: Callable[[ModelFetch], None]
) -> BackgroundFetch | None:
    """Return the fetch that the settings ask for; None if they ask for none, name models instead of
    a set, or name a set that this machine cannot run."""
    if not config.fetch_set or names_models(config):
        return None
    store = ModelStore(config.models_dir)
    chosen = find_set(store, config.fetch_set)
    if obstacle := find_obstacle(chosen, this_machine()):
        log.info("model_set.not_fetched", set=chosen.name, reason=obstacle)
        return None
    return BackgroundFetch(store, chosen, clock, on_change)


def find_set(store: ModelStore, name: str) -> ModelSet:
    """Return a set of the catalogue. Raises BadRequest if the name is unknown."""
    found = store.catalogue.find_set(name)
    if found is None:
        known = ", ".join(each.name for each in store.catalogue.sets)
        raise BadRequest(
            f"There is no set of models {name!r}. Choose one of {known}.",
            code=ErrorCode.BAD_SETTING,
        )
    return found


class InstalledSets:
    """Source of the installed sets of the catalogue. A set that is installed later is found."""

    def __init__(self, config: Config, clock: Clock | None, machine: Machine) -> None:
        """Without a clock, sets can be resolved but not created. Raises BadRequest if the settings
        name a set that is not in the catalogue."""
        self._config = config
        self._clock = clock
        self._machine = machine
        self.store = ModelStore(config.models_dir)
        self._damaged: set[str] = set()
        self._replaced: set[tuple[str, str]] = set()
        """Pairs of an unusable set and its replacement that were logged."""
        for name in (config.model_set, config.fetch_set):
            if name:
                find_set(self.store, name)

    def resolve(self, name: str) -> str:
        usable = [
            each
            for each in self.store.catalogue.sets
            if each.name not in self._damaged and is_set_installed(self.store, each)
        ]
        wanted = name or self._config.model_set
        if any(each.name == wanted for each in usable):
            return wanted
        chosen = choose_set(usable, self._machine)
        if chosen is None:
            # Nothing is installed: name the set whose models are to be fetched first.
            first = "" if self._config.fetch_set else wanted
            return first or self.store.catalogue.sets[0].name
        known = self.store.catalogue.find_set(wanted) is not None
        if known and (wanted, chosen.name) not in self._replaced:
            self._replaced.add((wanted, chosen.name))
            reason = "it is damaged" if wanted in self._damaged else "it is not installed"
            log.warning("model_set.replaced", wanted=wanted, used=chosen.name, reason=reason)
        return chosen.name

    def create(self, name: str) -> SetModels:
        assert self._clock is not None
        chosen = find_set(self.store, name)
        try:
            models = _create_models(
                ((chosen.language,), (chosen.speech,)), self._config, self._clock
            )
        except PrepServerError:
            self._damaged.add(name)
            raise
        return SetModels(language=models.language, speech=models.speech, memory=chosen.memory)


def _named_models(config: Config) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of the language models and of the speech models in the settings; a kind that
    is not named is that of the first set in the catalogue."""
    first = ModelStore(config.models_dir).catalogue.sets[0]
    language = (config.model or first.language, *config.fallback)
    return language, (config.stt_model or first.speech, *config.stt_fallback)


def _create_models(
    names: tuple[Sequence[str], Sequence[str]], config: Config, clock: Clock
) -> SetModels:
    language, speech = names
    return SetModels(
        language=[_create_language_model(name, config, clock) for name in language],
        speech=[_create_speech_model(name, config, clock) for name in speech],
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
    language, names = _named_models(config)
    key = config.stt_openai_api_key
    if job == "interviewer" or not key:
        names, key = (*language, *names), config.openai_api_key
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
