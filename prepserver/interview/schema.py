"""SQL schema of the interview objects.

The n-th script migrates a database from version n - 1 to version n. Released scripts are never
changed; add a new script instead.
"""

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
    """
    ALTER TABLE applied RENAME TO applied_messages;
    ALTER TABLE refused RENAME TO rejected_messages;

    -- The transcription of each spoken answer, as JSON.
    ALTER TABLE speeches RENAME TO transcriptions;
    ALTER TABLE transcriptions RENAME COLUMN message TO message_id;
    ALTER TABLE transcriptions RENAME COLUMN speech TO transcription;
    UPDATE transcriptions SET transcription = CAST(
        replace(CAST(transcription AS TEXT), '"why_dropped":', '"drop_reason":') AS BLOB
    );

    ALTER TABLE audio RENAME TO audio_chunks;
    ALTER TABLE audio_chunks RENAME COLUMN recording TO recording_id;
    ALTER TABLE audio_chunks RENAME COLUMN first TO first_frame;

    UPDATE _kv SET key = 'list_update_pending' WHERE key = 'unlisted';
    UPDATE _kv SET key = 'end_requested' WHERE key = 'ending';
    UPDATE _kv SET
        key = 'history_summary',
        value = CAST(replace(CAST(value AS TEXT), '"upto":', '"covered":') AS BLOB)
    WHERE key = 'condensed';
    """,
    """
    ALTER TABLE messages ADD COLUMN intent TEXT;            -- of a candidate's message, or a reply
    ALTER TABLE messages ADD COLUMN topic TEXT NOT NULL DEFAULT '';  -- of a question

    -- How each question came about, and what each answer covered, as JSON.
    CREATE TABLE asked_questions (message_id TEXT PRIMARY KEY, asked BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE assessments (message_id TEXT PRIMARY KEY, assessment BLOB NOT NULL) WITHOUT ROWID;
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
