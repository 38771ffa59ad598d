"""Every key of the screens, in one place: footers, bindings and the help are made from it.

Chosen from what terminals deliver without asking: control with a letter, escape, enter and the
function keys. A terminal sends the same byte for enter and shift+enter unless it speaks the newer
keyboard protocol, so a line break also has ctrl+j, which every terminal sends. Letters that the
answer box needs for editing (ctrl+a, e, k, u, w, x, c, v, z, y, d) and the prefixes of terminal
multiplexers are left alone.
"""

from msgspec import Struct
from textual.binding import Binding


class Key(Struct, frozen=True):
    """One thing that a key does."""

    keys: str
    """Textual's names, separated by commas; the first one is shown."""
    action: str
    label: str
    """One word or two, for the footer."""
    help: str
    """One line, for the help screen."""

    def binding(self, *, show: bool = True, priority: bool = False) -> Binding:
        """`priority` wins over the focused widget, such as a text box that would take the key."""
        return Binding(self.keys, self.action, self.label, show=show, priority=priority)


# --- Everywhere -------------------------------------------------------------------------------

HELP = Key("f1", "show_help", "Help", "show the keys")
HELP_SIGN = Key("question_mark", "app.show_help", "Help", "show the keys, outside a text box")
APPEARANCE = Key("f9", "toggle_appearance", "Light or dark", "change between light and dark")
QUIT = Key("ctrl+q", "quit_prep", "Quit", "leave prep; every interview is kept as it is")
CLOSE = Key("escape", "close", "Close", "close this screen")

# --- Interview --------------------------------------------------------------------------------

SEND = Key("enter,ctrl+s", "send", "Send", "send what you typed")
NEWLINE = Key("ctrl+j,shift+enter", "newline", "New line", "begin a new line")
RECORD = Key("ctrl+r,f2", "record", "Record", "start speaking")
FINISH = Key("ctrl+r,f2", "finish", "Send speech", "while speaking: stop and send what you said")
HINT = Key("ctrl+t,f3", "hint", "Hint", "ask for a hint to the open question")
STOP = Key("escape", "stop", "Stop", "stop the interviewer")
DISCARD = Key("escape", "discard", "Discard", "while speaking: forget what you said")
RETRY = Key("ctrl+g,f4", "retry", "Try again", "try again what failed or was stopped")
END = Key("ctrl+o,f8", "end", "End", "end the interview now; you are asked first")
LOBBY = Key("ctrl+l", "lobby", "Interviews", "go back to the list; the interview is kept")
SCROLL_UP = Key("pageup", "scroll_transcript(-1)", "Back", "read what was said before")
SCROLL_DOWN = Key("pagedown", "scroll_transcript(1)", "Forward", "come back to the newest words")

# --- List of interviews -----------------------------------------------------------------------

OPEN = Key("enter", "select", "Open", "open the interview, or go on with it")
NEW = Key("n,ctrl+n", "new", "New", "begin a new interview")
DELETE = Key("d,delete", "delete", "Delete", "delete the interview; you are asked first")
QUIT_LETTER = Key("q", "app.quit_prep", "Quit", "leave prep")

# --- New interview ----------------------------------------------------------------------------

START = Key("ctrl+s", "start", "Start", "begin the interview")
NEXT_FIELD = Key("tab", "app.focus_next", "Next", "go to the next field; shift+tab goes back")

# --- A question with two answers --------------------------------------------------------------

YES = Key("y", "yes", "Yes", "yes")
NO = Key("n,escape", "no", "No", "no")


class Section(Struct, frozen=True):
    """Keys that belong together on the help screen."""

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
            STOP,
            RETRY,
            END,
            LOBBY,
            SCROLL_UP,
            SCROLL_DOWN,
        ),
    ),
    Section("In the list of interviews", (OPEN, NEW, DELETE, QUIT_LETTER)),
    Section("Preparing a new interview", (START, NEXT_FIELD)),
    Section("Everywhere", (HELP, APPEARANCE, QUIT)),
)


def spelled(key: str) -> str:
    """How a key is written for people: `ctrl+j` stays, `pageup` becomes `page up`."""
    names = {
        "question_mark": "?",
        "escape": "esc",
        "pageup": "page up",
        "pagedown": "page down",
    }
    return names.get(key, key)
