"""The table of keys, from which bindings, footers, the help screen and sentences are made.

Every action has a key that every terminal delivers, such as control with a letter, escape, enter or
a function key. Some programs keep a key for themselves, as VS Code does with ctrl+q, so the actions
of an interview, and quitting, have two. Without the newer keyboard protocol a terminal sends the
same byte for enter and shift+enter, so ctrl+j also inserts a line break. The editing keys of the
answer box (ctrl+a, e, k, u, w, x, c, v, z, y, d) and the prefixes of terminal multiplexers are not
used.
"""

from msgspec import Struct
from textual.binding import Binding


class Key(Struct, frozen=True):
    """An action and its keys."""

    keys: str
    """Textual's key names, separated by commas; footers and sentences show the first key."""
    action: str
    label: str
    """Label in the footer, in one to three words."""
    help: str
    """Description on the help screen, in one line."""

    @property
    def name(self) -> str:
        """Display name of the first key, such as `ctrl+r`, for use in sentences."""
        return key_label(self.keys.partition(",")[0])

    def binding(self, *, show: bool = True, priority: bool = False) -> Binding:
        """Return the binding for Textual. With `priority`, the binding precedes those of the
        focused widget."""
        return Binding(self.keys, self.action, self.label, show=show, priority=priority)


# --- Everywhere -------------------------------------------------------------------------------

HELP = Key("f1", "show_help", "Help", "show the keys")
HELP_SIGN = Key("question_mark", "app.show_help", "Help", "show the keys (outside text boxes)")
APPEARANCE = Key("f9", "toggle_appearance", "Light or dark", "switch between light and dark")
QUIT = Key("ctrl+q,f10", "quit_prep", "Quit", "quit prep; interviews and drafts are kept")
CLOSE = Key("escape", "close", "Close", "close this screen")

# --- Interview --------------------------------------------------------------------------------

SEND = Key("enter,ctrl+s", "send", "Send", "send your typed answer")
NEWLINE = Key("ctrl+j,shift+enter", "newline", "New line", "insert a line break")
RECORD = Key("ctrl+r,f2", "record", "Record", "record a spoken answer")
FINISH = Key("ctrl+r,f2", "finish", "Send recording", "while recording: stop and send")
HINT = Key("ctrl+t,f3", "hint", "Hint", "get a hint for the open question")
ASK = Key("ctrl+p,f5", "ask", "Ask", "ask to repeat, to rephrase, for a moment, or to skip")
AGENDA = Key("ctrl+n,f12", "agenda", "Agenda", "show the agenda, and change what is still planned")
BEGIN = Key("ctrl+s", "begin", "Start", "start a planned interview")
STOP = Key("escape", "stop", "Stop", "stop the interviewer")
DISCARD = Key("escape", "discard", "Discard", "while recording: stop and discard")
RETRY = Key("ctrl+g,f4", "retry", "Try again", "retry the failed or stopped turn")
END = Key("ctrl+o,f8", "end", "End", "end the interview, after a confirmation")
LOBBY = Key("ctrl+l", "lobby", "Interviews", "return to the list; the interview is kept")
SCROLL_UP = Key("pageup", "scroll_transcript(-1)", "Back", "scroll back one page")
SCROLL_DOWN = Key("pagedown", "scroll_transcript(1)", "Forward", "scroll forward one page")

# --- Requests to the interviewer --------------------------------------------------------------

REPEAT = Key("r", "repeat", "Repeat", "repeat the question")
REPHRASE = Key("p", "rephrase", "Rephrase", "put the question in other words")
PAUSE = Key("m", "pause", "A moment", "give me a moment to think")
SKIP = Key("s", "skip", "Skip", "skip the question")

# --- Agenda -----------------------------------------------------------------------------------

ADD = Key("a", "add", "Add", "add a skill or a question")
CHANGE = Key("enter,e", "change", "Change", "change the question")
REMOVE = Key("d,delete", "remove", "Remove", "remove the topic")
EARLIER = Key("k,shift+up", "move(-1)", "Up", "move the topic up")
LATER = Key("j,shift+down", "move(1)", "Down", "move the topic down")
LONGER = Key("plus", "minutes(1)", "Longer", "give the topic one minute more")
SHORTER = Key("minus", "minutes(-1)", "Shorter", "give the topic one minute less")

# --- List of interviews -----------------------------------------------------------------------

OPEN = Key("enter", "select", "Open", "open or continue the interview")
NEW = Key("n,ctrl+n", "new", "New", "start a new interview")
DELETE = Key("d,delete", "delete", "Delete", "delete the interview, after a confirmation")
QUIT_LETTER = Key("q", "app.quit_prep", "Quit", "quit prep")

# --- New interview ----------------------------------------------------------------------------

START = Key("ctrl+s", "start", "Start", "start the interview; in a text field, enter does so too")
NEXT_FIELD = Key("tab", "app.focus_next", "Next", "go to the next field; shift+tab goes back")

# --- Confirmation -----------------------------------------------------------------------------

YES = Key("y", "yes", "Yes", "yes")
NO = Key("n,escape", "no", "No", "no")
CHOOSE = Key("left,right", "choose", "Choose", "choose the other button")


class Section(Struct, frozen=True):
    """A group of keys on the help screen."""

    title: str
    keys: tuple[Key, ...]


SECTIONS = (
    Section(
        "During an interview",
        (
            SEND,
            NEWLINE,
            RECORD,
            FINISH,
            DISCARD,
            HINT,
            ASK,
            AGENDA,
            STOP,
            RETRY,
            END,
            LOBBY,
            SCROLL_UP,
            SCROLL_DOWN,
        ),
    ),
    Section("Requests to the interviewer", (REPEAT, REPHRASE, PAUSE, SKIP)),
    Section("In the agenda", (BEGIN, ADD, CHANGE, REMOVE, EARLIER, LATER, LONGER, SHORTER)),
    Section("In the list of interviews", (OPEN, NEW, DELETE, QUIT_LETTER)),
    Section("In the form for a new interview", (START, NEXT_FIELD)),
    Section("Everywhere", (HELP, APPEARANCE, QUIT)),
)


def key_label(key: str) -> str:
    """Return a key's display name: `page up` for `pageup`; `ctrl+j` is returned unchanged."""
    names = {
        "question_mark": "?",
        "plus": "+",
        "minus": "-",
        "escape": "esc",
        "pageup": "page up",
        "pagedown": "page down",
    }
    return names.get(key, key)
