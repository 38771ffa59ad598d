"""Rendering of a chat as text in the format that the model was trained on.

The template is part of the model's file. The template is a program from an untrusted source, so it
runs in Jinja's sandbox. Every template sees the same date, so that the same chat always gives the
same prompt. Templates find the functions and filters that Hugging Face's `apply_chat_template` and
llama.cpp provide.
"""

import datetime
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from prepserver.engines.chat_turns import alternating_turns, joined_turns
from prepserver.engines.thoughts import with_closed_thought
from prepserver.engines.types import ChatTurn
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = ["CHATML", "ChatTemplate", "ControlTokenEscaper"]

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Template for a model without a template of its own; llama.cpp uses the same one."""

DATE = datetime.datetime(2026, 1, 1)
"""Date that every template sees."""

VARIABLES: dict[str, Any] = {
    # Names under which templates let a caller turn off thinking.
    "enable_thinking": False,
    "thinking": False,
    "thinking_budget": 0,
    "thinking_mode": "disabled",
    "skip_thinking": True,
    "reasoning": False,
    # Names that llama.cpp defines for the template of Firefunction.
    "functions": "",
    "datetime": f"{DATE:%b %d %Y}",
}


class ChatTemplate:
    """Compiled chat template of a model."""

    def __init__(self, source: str, *, bos: str, eos: str, model: str = "") -> None:
        """Compile the template, and find the form of a chat that it renders completely.

        `bos` and `eos` are the texts of the model's begin and end tokens; `model` is the model's
        name for error messages. Raises InferenceError, code `bad_chat`, if the template is invalid.
        """
        self._model = model
        self._tokens = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = _environment().from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise self._bad_chat("is invalid", error) from error
        self.failure: InferenceError | None = None
        """Error of a template that renders no complete chat; None if the template is usable."""
        self._forms = _FORMS[self._choose_form() :]
        self._reply_start = self._find_reply_start()

    def render(self, turns: Sequence[ChatTurn], *, skip_thought: bool = False) -> str:
        """Return the chat as one text, which ends where the assistant's reply begins.

        If the template begins the reply with a thought, the thought is ended. With `skip_thought`,
        an empty thought is added if there is none. Raises InferenceError, code `bad_chat`, when the
        template rejects the turns.
        """
        # A chat that does not end with a user turn is only prefilled. The prefill is useless in
        # another form than that of the prompt that follows.
        forms = self._forms if turns and turns[-1].role == "user" else self._forms[:1]
        failures: list[InferenceError] = []
        for form in forms:
            try:
                text = self._render_form(turns, form)
            except InferenceError as error:
                failures.append(error)
            else:
                return with_closed_thought(
                    text + self._reply_start, empty_thought=skip_thought and not self._reply_start
                )
        raise failures[0]

    def _choose_form(self) -> int:
        """Return the index of the first form in which the template renders all turns of the sample
        chats, if possible once and in order.

        If there is none, `failure` is set.
        """
        complete: list[int] = []
        accepted: list[int] = []
        failure: InferenceError | None = None
        for index, form in enumerate(_FORMS):
            try:
                texts = [self._render_form(turns, form) for turns in _SAMPLES]
            except InferenceError as error:
                failure = failure or error
                continue
            accepted.append(index)
            rendered = [re.findall("Sample-[a-z-]+", text) for text in texts]
            expected = [[turn.content for turn in turns] for turns in _SAMPLES]
            if rendered == expected:
                return index
            if [set(words) for words in rendered] == [set(words) for words in expected]:
                complete.append(index)
        if not complete:
            self.failure = (
                self._bad_chat("leaves out part of the conversation") if accepted else failure
            )
        return [*complete, *accepted, 0][0]

    def _find_reply_start(self) -> str:
        """Return what the template writes between the end of a prompt and the text of the reply,
        such as the name of a channel; empty if that is only white space."""
        form, marker = self._forms[0], ChatTurn("assistant", "Reply.")
        try:
            prompt = self._render_form(_SAMPLES[0], form)
            answered = self._render_form((*_SAMPLES[0], marker), form, add_generation_prompt=False)
        except InferenceError:
            return ""
        start = answered.removeprefix(prompt).partition(marker.content)[0]
        return start if answered.startswith(prompt) and start.strip() else ""

    def _render_form(
        self, turns: Sequence[ChatTurn], form: "Form", *, add_generation_prompt: bool = True
    ) -> str:
        try:
            return self._template.render(
                **VARIABLES,
                **self._tokens,
                messages=form(turns),
                add_generation_prompt=add_generation_prompt,
            )
        except Exception as error:  # a template may raise anything
            raise self._bad_chat("rejected the conversation", error) from error

    def _bad_chat(self, problem: str, error: Exception | None = None) -> InferenceError:
        model = f"model {self._model}" if self._model else "model"
        cause = f": {error}" if error else ""
        return InferenceError(
            f"The chat template of the {model} {problem}{cause}. Choose another model.",
            code=ErrorCode.BAD_CHAT,
            retryable=False,
        )


class ControlTokenEscaper:
    """Escaper for user text that would otherwise be parsed as the model's control tokens.

    If a candidate types `<|im_end|>`, the model reads these characters as text, and the turn
    continues.
    """

    def __init__(self, control_tokens: Iterable[str]) -> None:
        texts = sorted((text for text in control_tokens if len(text) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, texts))) if texts else None

    def escape(self, text: str) -> str:
        """Return the text with a space after the first character of each control token.

        A control token of a single character is not escaped.
        """
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


# --- Forms of a chat --------------------------------------------------------------------------


Form = Callable[[Sequence[ChatTurn]], list[dict[str, Any]]]
"""Function that returns a chat as the messages of a template."""


def _messages(turns: Iterable[ChatTurn]) -> list[dict[str, Any]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _messages_in_parts(turns: Iterable[ChatTurn]) -> list[dict[str, Any]]:
    """Return messages whose content is a list of parts, as templates of vision models require."""
    return [
        {"role": turn.role, "content": [{"type": "text", "text": turn.content}]} for turn in turns
    ]


_FORMS: tuple[Form, ...] = (
    _messages,
    lambda turns: _messages(joined_turns(turns)),
    lambda turns: _messages(alternating_turns(turns)),
    _messages_in_parts,
    lambda turns: _messages_in_parts(alternating_turns(turns)),
)
"""Forms of a chat, in the order in which they are tried."""

_SAMPLES = (
    (ChatTurn("system", "Sample-system"), ChatTurn("user", "Sample-user")),
    (
        ChatTurn("system", "Sample-system"),
        ChatTurn("assistant", "Sample-question"),
        ChatTurn("user", "Sample-answer"),
        ChatTurn("user", "Sample-instruction"),
    ),
    (
        ChatTurn("system", "Sample-system"),
        ChatTurn("user", "Sample-summary"),
        ChatTurn("assistant", "Sample-question"),
        ChatTurn("user", "Sample-answer"),
        ChatTurn("assistant", "Sample-follow-up"),
        ChatTurn("user", "Sample-reply"),
        ChatTurn("user", "Sample-instruction"),
    ),
)
"""Chats with the roles that occur in interviews. One form is chosen for all of them, so that the
prompts of one interview have a common prefix."""


# --- Environment of a template ----------------------------------------------------------------


class _GenerationBlock(Extension):
    """Block `{% generation %}`, which marks the assistant's text for training. It renders as its
    content."""

    tags = {"generation"}  # noqa: RUF012  (declared so in the base class)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(
            parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line
        )


def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[loopcontrols, _GenerationBlock],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = DATE.strftime
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON without the HTML escapes of Jinja's own filter."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: Any) -> NoReturn:
    raise ValueError(str(message))
