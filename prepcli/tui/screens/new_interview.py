"""The form for a new interview."""

import asyncio
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Button, Checkbox, Footer, Input, Label, Select, Static

from prepcli.client.documents import extract_document, read_document_bytes
from prepcli.drafts import Draft, DraftStore
from prepcli.errors import DocumentError
from prepcli.terminal_text import printable
from prepcli.tui.draft_saver import DraftSaver
from prepcli.tui.keys import CLOSE, NEXT_FIELD, START
from prepcli.tui.widgets.interviews import TYPES
from prepserver.wire.languages import LANGUAGES
from prepserver.wire.limits import MAX_COMPANY, MAX_ID, MAX_MINUTES, MAX_QUESTIONS, MAX_ROLE
from prepserver.wire.protocol import InterviewSpec, InterviewType, Level, Mode

MODES = {Mode.PRACTICE: "practice, with hints", Mode.REAL: "real, without hints and agenda"}

DRAFT_NAME = "new interview"
"""Name of the form's draft; the space keeps it apart from the ids of interviews."""


class NewInterviewScreen(Screen[InterviewSpec | None]):
    """Form that returns the specification of an interview, or None if the user cancels. Each
    invalid field shows what is wrong."""

    CSS_PATH = "new_interview.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        START.binding(),
        NEXT_FIELD.binding(),
        CLOSE.binding(),
    ]

    def __init__(self, spec: InterviewSpec | None = None, *, drafts: DraftStore) -> None:
        """`spec` fills in the form, unless `drafts` has the text of a form that was never
        finished."""
        super().__init__()
        self._spec = spec or InterviewSpec()
        self._drafts = DraftSaver(self, drafts, DRAFT_NAME)
        self._finished = False

    def compose(self) -> ComposeResult:
        spec = self._spec
        yield Static("New interview", id="title")
        with VerticalScroll(id="form", can_focus=False):
            yield from self._field("role", "Role", Input(spec.role, max_length=MAX_ROLE))
            yield from self._field(
                "company", "Company", Input(spec.company, "optional", max_length=MAX_COMPANY)
            )
            yield from self._field(
                "type",
                "Kind",
                Select(
                    [(name, kind) for kind, name in TYPES.items()],
                    value=spec.type,
                    allow_blank=False,
                ),
            )
            yield from self._field(
                "level",
                "Level",
                Select(
                    [(level.value, level) for level in Level], value=spec.level, allow_blank=False
                ),
            )
            yield from self._field(
                "questions",
                "Questions",
                Input(str(spec.questions), max_length=len(str(MAX_QUESTIONS))),
            )
            yield from self._field(
                "minutes",
                "Minutes",
                Input(
                    str(spec.minutes or ""),
                    "optional; no limit",
                    max_length=len(str(MAX_MINUTES)),
                ),
            )
            given = "already given" if spec.job_description else "optional; path to a file"
            yield from self._field("job", "Job description", Input("", given))
            given = "already given" if spec.resume else "optional; path to a file"
            yield from self._field("resume", "Resume", Input("", given))
            yield from self._field(
                "mode",
                "Mode",
                Select(
                    [(words, mode) for mode, words in MODES.items()],
                    value=spec.mode,
                    allow_blank=False,
                ),
            )
            yield from self._field(
                "agenda",
                "Agenda",
                Checkbox("Show the agenda before the start", spec.review_agenda),
            )
            yield from self._field(
                "language",
                "Language",
                Select(
                    sorted((name, code) for code, name in LANGUAGES.items()),
                    value=spec.language,
                    allow_blank=False,
                ),
            )
            yield from self._field(
                "set",
                "Models",
                Input(spec.model_set, "optional; a set of models", max_length=MAX_ID),
            )
            yield Button("Start the interview", id="start", variant="primary", compact=True)
        yield Footer(show_command_palette=False)

    def _field(self, name: str, label: str, entry: Input | Select[Any] | Checkbox) -> ComposeResult:
        entry.id = name
        entry.compact = True
        with Horizontal(id=f"{name}-field", classes="field"):
            yield Label(label, classes="label")
            with Vertical(classes="entry"):
                yield entry
                yield Static("", id=f"{name}-problem", classes="problem", markup=False)

    def on_mount(self) -> None:
        self._initial = {each.id or "": each.value for each in self.query(Input)}
        for each in self.query(Input):
            each.value = self._drafts.load().fields.get(each.id or "", each.value)
        self.query("#role").focus()  # none if prep is quitting

    def on_unmount(self) -> None:
        self._drafts.finish(Draft() if self._finished else self._draft())

    def _draft(self) -> Draft:
        fields = {each.id or "": each.value for each in self.query(Input)}
        return Draft() if fields == self._initial else Draft(fields=fields)

    @on(Input.Submitted)
    @on(Button.Pressed)
    def _start(self) -> None:
        self.action_start()

    @on(Input.Changed)
    def _clear_problem(self, event: Input.Changed) -> None:
        """Clear a field's problem when the field changes; `action_start` validates the field
        again."""
        self._show_problem(event.input.id or "", "")
        self._drafts.changed(self._draft)

    def _text(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def _choice(self, name: str) -> str:
        return str(self.query_one(f"#{name}", Select).value)

    @on(Select.Changed, "#mode")
    def _hide_agenda(self, event: Select.Changed) -> None:
        """Disable the choice of an agenda that a real interview hides."""
        self.query_one("#agenda", Checkbox).disabled = event.value == Mode.REAL

    def _show_problem(self, name: str, problem: str) -> None:
        self.query_one(f"#{name}-problem", Static).update(problem)
        self.query_one(f"#{name}-field").set_class(bool(problem), "-wrong")

    @work(exclusive=True, group="start")
    async def action_start(self) -> None:
        problems: dict[str, str] = {}
        role = self._text("role")
        if not role:
            problems["role"] = "Enter a role, such as Backend Engineer."
        questions = _number(self._text("questions"))
        if not 1 <= questions <= MAX_QUESTIONS:
            problems["questions"] = f"Enter a number from 1 to {MAX_QUESTIONS}."
        minutes = _number(self._text("minutes") or "0")
        if not 0 <= minutes <= MAX_MINUTES:
            problems["minutes"] = f"Enter a number from 1 to {MAX_MINUTES}, or nothing."
        documents = {"job": self._spec.job_description, "resume": self._spec.resume}
        notes: list[str] = []
        for name in documents:
            if not (path := self._text(name)):
                continue
            try:
                file = _expand(path)
                data = await asyncio.to_thread(read_document_bytes, file)
                document = await extract_document(file, data)
                documents[name] = document.text
                notes.append(document.note)
            except DocumentError as error:
                problems[name] = str(error)
        for name in ("role", "questions", "minutes", "job", "resume"):
            self._show_problem(name, problems.get(name, ""))
        if problems:
            self.query_one(f"#{next(iter(problems))}").focus()
            return
        for note in filter(None, notes):
            self.notify(printable(note), severity="warning", markup=False)
        mode = Mode(self._choice("mode"))
        agenda = self.query_one("#agenda", Checkbox).value
        self._finished = True
        self.dismiss(
            InterviewSpec(
                role=role,
                company=self._text("company"),
                type=InterviewType(self._choice("type")),
                level=Level(self._choice("level")),
                questions=questions,
                mode=mode,
                minutes=minutes,
                language=self._choice("language"),
                model_set=self._text("set"),
                review_agenda=agenda and mode is not Mode.REAL,
                job_description=documents["job"],
                resume=documents["resume"],
            )
        )

    def action_close(self) -> None:
        self._finished = True
        self.dismiss(None)


def _number(text: str) -> int:
    """Return the number that a field contains, or -1 if it contains none."""
    return int(text) if text.isascii() and text.isdigit() else -1


def _expand(path: str) -> Path:
    """Return a path with a leading `~` expanded. Raises DocumentError if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DocumentError(f"{path} starts with an unknown user name. Check the path.") from None
