"""Tables of the domain's objects. A script is never changed once released: add the next one."""

__all__ = ["INTERVIEW", "USER_INTERVIEWS"]

INTERVIEW = (
    """
    CREATE TABLE messages (
        id TEXT PRIMARY KEY,
        position INTEGER NOT NULL UNIQUE,
        role TEXT NOT NULL,
        kind TEXT NOT NULL,
        text TEXT NOT NULL,
        source TEXT NOT NULL,
        created_at REAL NOT NULL,
        edited INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;

    -- One exchange with the models. It is stored before they are asked.
    CREATE TABLE turns (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        step TEXT NOT NULL,
        state TEXT NOT NULL,      -- active, done, failed, stopped
        attempt INTEGER NOT NULL, -- how often a person has asked for it
        recording TEXT,           -- what there is to transcribe
        error BLOB,
        created_at REAL NOT NULL
    );

    CREATE TABLE recordings (
        id TEXT PRIMARY KEY,
        frames INTEGER NOT NULL,  -- stored, counted from frame 0 without a gap
        bytes INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE audio (
        recording TEXT NOT NULL, first INTEGER NOT NULL, pcm BLOB NOT NULL,
        PRIMARY KEY (recording, first)
    ) WITHOUT ROWID;

    -- Ids of client messages that took effect: a resend is answered, not applied.
    CREATE TABLE applied (id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
    """,
    """
    -- How a spoken answer was heard: words and when they were said, and what was set aside.
    CREATE TABLE speeches (message TEXT PRIMARY KEY, speech BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    -- The latest client messages that were refused, and with what error: a resend is refused again.
    CREATE TABLE refused (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        error BLOB NOT NULL
    );
    """,
)

USER_INTERVIEWS = (
    """
    CREATE TABLE interviews (
        id TEXT PRIMARY KEY,
        created_at REAL NOT NULL,
        view BLOB NOT NULL,       -- protocol.Interview as JSON
        spec BLOB,                -- kept until the interview has taken it over
        deleting INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    """,
)
