"""The form for a new interview."""

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Button, Footer, Input, Label, Select, Static

from prepcli.client.documents import extract_document, read_document_bytes
from prepcli.drafts import Draft, DraftStore
from prepcli.errors import DocumentError
from prepcli.terminal_text import printable
from prepcli.tui.draft_saver import DraftSaver
from prepcli.tui.keys import CLOSE, NEXT_FIELD, START
from prepcli.tui.widgets.interviews import TYPES
from prepserver.wire.limits import MAX_COMPANY, MAX_QUESTIONS, MAX_ROLE
from prepserver.wire.protocol import InterviewSpec, InterviewType, Level

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
            given = "already given" if spec.job_description else "optional; path to a file"
            yield from self._field("job", "Job description", Input("", given))
            given = "already given" if spec.resume else "optional; path to a file"
            yield from self._field("resume", "Resume", Input("", given))
            yield Button("Start the interview", id="start", variant="primary", compact=True)
        yield Footer(show_command_palette=False)

    def _field(
        self, name: str, label: str, entry: Input | Select[InterviewType] | Select[Level]
    ) -> ComposeResult:
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

    def _show_problem(self, name: str, problem: str) -> None:
        self.query_one(f"#{name}-problem", Static).update(problem)
        self.query_one(f"#{name}-field").set_class(bool(problem), "-wrong")

    @work(exclusive=True, group="start")
    async def action_start(self) -> None:
        problems: dict[str, str] = {}
        role = self._text("role")
        if not role:
            problems["role"] = "Enter a role, such as Backend Engineer."
        number = self._text("questions")
        questions = int(number) if number.isascii() and number.isdigit() else 0
        if not 1 <= questions <= MAX_QUESTIONS:
            problems["questions"] = f"Enter a number from 1 to {MAX_QUESTIONS}."
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
        for name in ("role", "questions", "job", "resume"):
            self._show_problem(name, problems.get(name, ""))
        if problems:
            self.query_one(f"#{next(iter(problems))}").focus()
            return
        for note in filter(None, notes):
            self.notify(printable(note), severity="warning", markup=False)
        kind = str(self.query_one("#type", Select).value)
        level = str(self.query_one("#level", Select).value)
        self._finished = True
        self.dismiss(
            InterviewSpec(
                role=role,
                company=self._text("company"),
                type=InterviewType(kind),
                level=Level(level),
                questions=questions,
                job_description=documents["job"],
                resume=documents["resume"],
            )
        )

    def action_close(self) -> None:
        self._finished = True
        self.dismiss(None)


def _expand(path: str) -> Path:
    """Return a path with a leading `~` expanded. Raises DocumentError if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DocumentError(f"{path} starts with an unknown user name. Check the path.") from None
