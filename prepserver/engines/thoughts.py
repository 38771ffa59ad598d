"""Removal of the thoughts that a reasoning model writes before or within its reply.

A thought stands between two marks, such as `<think>` and `</think>`. The marks differ from model to
model and arrive in pieces. Text that cannot be the beginning of a mark is passed on at once.
"""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
import structlog

from prepserver.engines.types import Prompt, TextDelta, Usage
from prepserver.errors import InferenceError
from prepserver.wire.error_codes import ErrorCode

__all__ = [
    "CLOSING_MARKS",
    "THOUGHT_MARKS",
    "ThoughtFilter",
    "generate_reply",
    "with_closed_thought",
]

_NAMES = (
    *("think", "thinking", "thought", "thoughts", "reason", "reasoning", "reflection"),
    *("analysis", "scratchpad", "seed:think", "mm:think", "think:opensource", "think_fast"),
    *("thought_process", "thinking_process", "internal_monologue", "inner_monologue"),
    *("internal_thoughts", "antthinking", "chain_of_thought"),
)
_FINAL_CHANNEL = "<|channel|>final<|message|>"
_MARKS = {
    **{f"<{name}>": f"</{name}>" for name in _NAMES},
    # With attributes, which count as part of the thought.
    **{f"<{name}{space}": f"</{name}>" for name in _NAMES for space in " \n"},
    '<details type="reasoning"': "</details>",  # Open WebUI
    **{f"<|{name}|>": f"<|/{name}|>" for name in ("think", "thinking")},
    **{f"&lt;{name}&gt;": f"&lt;/{name}&gt;" for name in ("think", "thinking")},
    "[THINK]": "[/THINK]",  # Magistral and Ministral
    "◁think▷": "◁/think▷",  # Kimi-VL
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command R
    "<|begin_of_thought|>": "<|end_of_thought|>",  # OpenThinker
    "<|inner_prefix|>": "<|inner_suffix|>",  # Apertus
    "<|open|>think<|sep|>": "<|close|>think<|sep|>",  # Kimi K3
    "<|channel>thought": "<channel|>",  # Gemma 4
    "<unused94>thought": "<unused95>",  # MedGemma
    "<|channel|>analysis": _FINAL_CHANNEL,  # gpt-oss
    "<|channel|>commentary": _FINAL_CHANNEL,
    # gpt-oss behind an endpoint that omits control tokens.
    **{f"analysis{word}": "assistantfinal" for word in ("we", "the", "user", "i", "let", "need")},
    "Here are my reasoning steps:": "[BEGIN FINAL RESPONSE]",  # Apriel
    "Here is my thought process:": "Here is my response:",  # Granite 3.2
}
"""Closing mark of each opening mark. Marks are recognised without regard to case."""
_REPLY_MARKS = (
    *("<response>", "</response>", "<answer>", "</answer>", "<|start|>assistant", "<|end|>"),
    *("<output>", "</output>", "<final_answer>", "</final_answer>", "<think/>", "<think />"),
    *("<|return|>", "<|begin_of_solution|>", "<|end_of_solution|>", "<|start_response|>"),
    *("<|end_response|>", "<|open|>response<|sep|>", "<|close|>response<|sep|>"),
)
"""Marks around the reply itself. They are removed, and the text between them is kept."""

EMPTY_THOUGHT = "<think>\n\n</think>\n\n"
"""Beginning of a reply after which most reasoning models do not think."""

THOUGHT_MARKS = {opening.lower(): closing.lower() for opening, closing in _MARKS.items()}
"""Closing mark of each opening mark, in lower case."""

CLOSING_MARKS = frozenset(THOUGHT_MARKS.values())
_ALL_MARKS = sorted({*THOUGHT_MARKS, *CLOSING_MARKS, *_REPLY_MARKS}, key=len, reverse=True)
_MARK_STARTS = frozenset(mark[:length] for mark in _ALL_MARKS for length in range(1, len(mark)))
_MARK = re.compile("|".join(map(re.escape, _ALL_MARKS)), re.IGNORECASE)

THOUGHT_BEGINNINGS = (
    *("okay", "ok", "alright", "all right", "hmm", "hm,", "let me", "let's", "let us", "first"),
    *("the user", "the candidate", "the interview", "the job", "the role", "the question"),
    *("the conversation", "the instruction", "the prompt", "the last", "the answer", "user"),
    *("i need", "i should", "i have to", "i must", "we need", "we have", "we should", "we must"),
    *("so ", "so,", "now", "got it", "wait", "to ", "looking", "given", "based", "since"),
    *("this ", "they", "he ", "she ", "my ", "maybe", "need ", "thinking", "thought", "analy"),
    *("here's a thinking", "goal", "task", "understand", "**", "1."),
)
"""First words, in lower case, that are more typical of a thought than of a question."""

log = structlog.get_logger(__name__)


class ThoughtFilter:
    """Filter that removes the thoughts from one streamed reply."""

    def __init__(self, *, hold: bool | None = False, is_question: bool = False) -> None:
        """Create a filter for one reply.

        If `hold` is True, all text is kept back until the reply ends or a closing mark shows that
        the reply began inside a thought. If `hold` is None, this depends on the first words; if
        they are not typical of a thought, a question is kept back from its question mark.
        """
        self.found = False
        """True once the reply contains the beginning or the end of a thought."""
        self.unopened = False
        """True once a thought has ended whose opening mark is missing."""
        self._hold = hold
        self._is_question = is_question and hold is None
        """True to keep text back from the first question mark. The interview stops reading there,
        and would not see that a thought ends later."""
        self._held = ""
        """Text that is kept back."""
        self._released = False
        """True once text other than white space has been released."""
        self._pending = ""
        """End of the received text, which may be the beginning of a mark."""
        self._opening = ""
        """Opening mark of the current thought; empty outside a thought."""
        self._depth = 0
        """Number of nested thoughts that are open."""
        self._thought = ""
        """Text since the last mark in the current thought."""
        self._closed_once = False
        """True once a closing mark has been found in the current, nested thought."""
        self._shown = False
        """True once text other than white space has been found outside a thought."""
        self._ends_in_space = True
        self._trim = False
        """True to drop the white space that comes next, because a thought has been removed between
        two pieces of white space."""

    def feed(self, text: str) -> str:
        """Process the next text of the reply, and return the part that may be shown.

        Raises InferenceError, code `bad_reply`, if the text returned so far turns out to be a
        thought.
        """
        text, self._pending = self._pending + text, ""
        visible: list[str] = []
        position = 0
        for match in _MARK.finditer(text):
            visible.append(self._take(text[position : match.start()]))
            if match[0][0].isalpha() and self._shown and not self._opening:
                visible.append(self._take(match[0]))  # words are marks only before other text
            else:
                self._cross(match[0].lower())
            position = match.end()
        rest = text[position:]
        length = self._mark_start_length(rest)
        self._pending = rest[len(rest) - length :]
        visible.append(self._take(rest[: len(rest) - length]))
        return "".join(visible)

    def skip_thought(self) -> None:
        """Note that part of a thought has arrived apart from the reply's text."""
        self._remove_thought()
        if not self._shown:
            self._hold = self._is_question = False

    def finish(self, *, truncated: bool = False) -> str:
        """Return the rest of the text that may be shown, at the end of the reply.

        With `truncated`, the reply was cut off, so that text kept back from the beginning may be an
        unfinished thought and is not returned.
        """
        rest, self._pending = self._pending, ""
        visible = self._take(rest)
        if self._opening and self._closed_once and not truncated:
            # The thought mentions its own opening mark. The reply follows the last closing mark.
            self._opening = ""
            visible = self._take(self._thought)
        if self._hold and truncated and not self._released:
            self.found = self.found or bool(self._held.strip())
            return ""
        return self._held + visible

    def _mark_start_length(self, text: str) -> int:
        """Return the length of the longest end of the text that may be the beginning of a mark."""
        lowered = text.lower()
        if len(lowered) != len(text):  # a letter such as İ has a longer lower case
            lowered = text
        longest = len(_ALL_MARKS[0]) - 1
        for start in range(max(0, len(text) - longest), len(text)):
            end = lowered[start:]
            if (
                end in _MARK_STARTS
                and (
                    not end[0].isalpha()
                    or self._opening
                    # A single letter is a word of its own.
                    or (len(end) > 1 and not self._shown and not lowered[:start].strip())
                )
            ):
                return len(end)
        return 0

    def _take(self, text: str) -> str:
        if self._opening:
            self._thought += text
            return ""
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        if text:
            self._shown = self._shown or not text.isspace()
            self._ends_in_space = text[-1].isspace()
        if self._hold is not False:
            self._held += text
            text = ""
        if self._hold is None and self._shown:
            self._hold = _may_begin_thought(self._held)
        if self._hold is False:
            text, self._held = self._held + text, ""
            if self._is_question and (start := text.find("?")) >= 0:
                text, self._held, self._hold = text[:start], text[start:], True
        self._released = self._released or bool(text.strip())
        return text

    def _cross(self, mark: str) -> None:
        """Update the state at a mark."""
        if self._opening:
            if mark == THOUGHT_MARKS[self._opening]:
                self._depth -= 1
                self._closed_once = True
                self._opening = self._opening if self._depth else ""
            # A model may repeat the mark with which its template has opened the thought.
            elif mark == self._opening and self._thought.strip():
                self._depth += 1
            self._thought = ""
        elif mark in THOUGHT_MARKS:
            self._remove_thought()
            if not self._shown:
                self._hold = self._is_question = False
            self._opening, self._depth, self._closed_once, self._thought = mark, 1, False, ""
        elif mark in CLOSING_MARKS:
            self._remove_thought()
            # Before all text, the mark ends a thought that the prompt has begun and left empty.
            self.unopened = self.unopened or self._shown
            if self._released:
                raise InferenceError(
                    "The model's reply began with a thought that was not marked as one. Try again.",
                    code=ErrorCode.BAD_REPLY,
                )
            self._hold = self._is_question = self._shown = False
            self._held, self._trim = "", True

    def _remove_thought(self) -> None:
        self.found = True
        self._trim = self._ends_in_space


def with_closed_thought(prompt: str, *, empty_thought: bool) -> str:
    """Return a rendered prompt with the text that ends the thought in which the prompt ends.

    With `empty_thought`, an empty thought is added if the prompt does not end with a thought.
    """
    end = prompt.rstrip()
    for opening, closing in _MARKS.items():
        if end.endswith(opening):
            return prompt + (f"\n{closing}\n\n" if closing.startswith("</") else closing)
    if empty_thought and not end.lower().endswith(tuple(CLOSING_MARKS)):
        return prompt + EMPTY_THOUGHT
    return prompt


async def generate_reply(
    ask: Callable[[Prompt], AsyncGenerator[TextDelta | Usage, None]], prompt: Prompt
) -> AsyncGenerator[TextDelta | Usage, None]:
    """Yield the events that `ask` yields for the prompt, with one Usage at the end.

    If the reply is only a thought, the model is asked once more, without a thought. The Usage then
    covers both replies.
    """
    spent = Usage()
    while True:
        shown = False
        async with aclosing(ask(prompt)) as events:
            async for event in events:
                if isinstance(event, Usage):
                    spent = _add_usage(spent, event)
                else:
                    shown = shown or bool(event.text.strip())
                    yield event
        if shown or prompt.skip_thought or not (prompt.turns and spent.thought):
            yield spent
            return
        log.info("reply.only_thought", purpose=prompt.purpose)
        prompt = msgspec.structs.replace(prompt, skip_thought=True)


def _may_begin_thought(text: str) -> bool | None:
    """Return True if the first words of a reply are typical of a thought; None if too few words are
    known."""
    start = text.lstrip().lower()
    if start.startswith(THOUGHT_BEGINNINGS):
        return True
    # A single letter is a word of its own. Only "I" begins a thought.
    if len(start) > 1 or start == "i":
        return None if any(each.startswith(start) for each in THOUGHT_BEGINNINGS) else False
    return False


def _add_usage(first: Usage, second: Usage) -> Usage:
    return Usage(
        prompt_tokens=first.prompt_tokens + second.prompt_tokens,
        cached_tokens=first.cached_tokens + second.cached_tokens,
        completion_tokens=first.completion_tokens + second.completion_tokens,
        seconds=first.seconds + second.seconds,
        thought=first.thought or second.thought,
        probabilities=second.probabilities,
    )
