-- What runs wait for so that others can find it, and what is kept for waits that have yet to begin.
--
-- A wait is a row that says: this run waits, as this command, for an event under a key, for a person's
-- input, for a request. It is written in the commit that says so in the history, and goes with it.
--
-- A publication is an event under a correlation key: it goes to every run that waits for its name under
-- that key, and is kept a while for waits that begin later. Whoever publishes writes, and whoever looks at
-- what is kept for a new wait writes too, so one of the two comes first and the second one sees it. A run
-- gets each publication once: the key ~pub:<number> in [inbox_keys] says that it was there.

CREATE TABLE [waits] (
    place       INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of listings
    run_key     INTEGER NOT NULL,
    cmd         INTEGER NOT NULL,
    kind        INTEGER NOT NULL,                   -- 1 event, 2 input, 3 request
    names       TEXT    NOT NULL,                   -- JSON array
    key         TEXT,                               -- correlation key
    due         INTEGER,
    recipients  TEXT    NOT NULL,                   -- JSON array: of whom an input is asked
    seq         INTEGER NOT NULL,                   -- the history event that says all of it
    answered_by TEXT,
    answered_at INTEGER,                            -- an input: when it was answered; not read by the run yet
    subscribed  INTEGER NOT NULL DEFAULT 0,         -- what was kept for it has been handed out
    UNIQUE (run_key, cmd)
) STRICT;
CREATE INDEX [waits_key] ON [waits] (key) WHERE key IS NOT NULL;
CREATE INDEX [waits_listed] ON [waits] (kind, place);

CREATE TABLE [publications] (
    n       INTEGER PRIMARY KEY AUTOINCREMENT,      -- in the order of the commits
    name    TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    data    BLOB    NOT NULL,
    until   INTEGER NOT NULL,                       -- how long it is kept
    idem    TEXT,                                   -- idempotency key, of this name and key
    reached INTEGER NOT NULL DEFAULT 0              -- how many runs have had it
) STRICT;
CREATE INDEX [publications_topic] ON [publications] (key, name, n);
CREATE INDEX [publications_until] ON [publications] (until);
CREATE INDEX [publications_idem] ON [publications] (key, name, idem) WHERE idem IS NOT NULL;
