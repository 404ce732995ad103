-- The story.
--
-- A run is one execution of a workflow. Its row in [runs] is what a scheduler needs to know: which lane
-- it waits in, who owns it, how long its durable history is, and when it is due for a look (ready_at).
-- Everything that ever happened to it stands in [history], numbered 1, 2, 3, ... without a hole; its
-- input is the first row and its outcome the last one, so no payload is kept anywhere else. Whoever wants
-- to tell a run something puts a message into its [inbox] under the next number of the run's own row.
--
-- Two rules make it safe. Every write of an owner says: owner, epoch and seq are what I believe (every
-- claim raises the epoch). And ready_at is always computed from the row's own columns, so that no message
-- is slept through.
--
-- All times are whole microseconds since the Unix epoch. Names in square brackets get the prefix of the
-- installation put in front ([runs] becomes [acme_runs]); without one the file runs as it stands.
-- For people there are [readable_runs] and [readable_history] at the end.

-- Worker processes that hold a lease. A row that is gone is a worker that may write nothing any more;
-- AUTOINCREMENT keeps its number from ever coming back.
CREATE TABLE [workers] (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL,
    host       TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    boot       TEXT    NOT NULL,                -- host boot and pid namespace: with pid, tells who lives
    code       TEXT    NOT NULL,                -- fingerprint of the code it runs
    queues     TEXT    NOT NULL,                -- JSON array
    workflows  TEXT    NOT NULL,                -- JSON array
    expires_at INTEGER NOT NULL
) STRICT;

-- Every worker there ever was, so that a history can name the dead.
CREATE TABLE [worker_names] (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    pid           INTEGER NOT NULL,
    code          TEXT    NOT NULL,
    registered_at INTEGER NOT NULL
) STRICT;

-- What a worker claims by: one number for a queue, a workflow and a version (0: any code of that name).
CREATE TABLE [lanes] (
    id       INTEGER PRIMARY KEY,
    queue    TEXT    NOT NULL,
    workflow TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    UNIQUE (queue, workflow, version)
) STRICT;

CREATE TABLE [runs] (
    key           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT    NOT NULL UNIQUE,
    lane          INTEGER NOT NULL,
    priority      INTEGER NOT NULL DEFAULT 0,
    status        TEXT    NOT NULL DEFAULT 'pending',
    hold          INTEGER NOT NULL DEFAULT 0,   -- 1 paused, 2 blocked: shown instead of the status
    owner         INTEGER,                      -- workers.id
    epoch         INTEGER NOT NULL DEFAULT 0,
    seq           INTEGER NOT NULL DEFAULT 1,   -- length of the history
    first_seq     INTEGER NOT NULL DEFAULT 1,   -- event that began the current generation
    inbox_head    INTEGER NOT NULL DEFAULT 0,   -- number of the newest message
    control_head  INTEGER NOT NULL DEFAULT 0,   -- number of the newest message that must be seen before the end
    consumed      INTEGER NOT NULL DEFAULT 0,   -- number of the newest message that is in the history
    ready_at      INTEGER,                      -- unowned: claim it then; owned: its owner looks again
    not_before    INTEGER,                      -- no claim before, whatever arrives
    recoveries    INTEGER NOT NULL DEFAULT 0,   -- workers lost under it since it last got on
    recovered_seq INTEGER NOT NULL DEFAULT 0,   -- how far it was at the last recovery
    lost_owner    INTEGER,                      -- reaped while it held the run; nothing written since
    blocked_by    TEXT,                         -- code fingerprint
    waiting_for   TEXT,                         -- in words
    deadline      INTEGER,
    tags          TEXT,                         -- JSON object of strings
    parent_key    INTEGER,
    parent_cmd    INTEGER,
    abandoned     INTEGER NOT NULL DEFAULT 0,   -- 1: a child that goes on when its parent ends
    has_waits     INTEGER NOT NULL DEFAULT 0,   -- 1: [waits] may hold something of it
    retried_from  TEXT,                         -- id of the run that was restarted under this id
    created_at    INTEGER NOT NULL,
    started_at    INTEGER,
    finished_at   INTEGER
) STRICT;

-- The claim: one probe per lane and priority, however many runs sleep or have ended.
CREATE INDEX [runs_ready] ON [runs] (lane, priority DESC, ready_at)
    WHERE owner IS NULL AND ready_at IS NOT NULL AND hold = 0;
CREATE INDEX [runs_owned] ON [runs] (owner, ready_at) WHERE owner IS NOT NULL;
CREATE INDEX [runs_parent] ON [runs] (parent_key, parent_cmd) WHERE parent_key IS NOT NULL;
CREATE INDEX [runs_blocked] ON [runs] (lane) WHERE hold = 2;
CREATE INDEX [runs_finished] ON [runs] (status) WHERE finished_at IS NOT NULL;

CREATE TABLE [history] (
    run_key INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    type    INTEGER NOT NULL,                   -- event_types.code
    at      INTEGER NOT NULL,                   -- what the workflow saw, hence never a default
    cmd     INTEGER,
    name    TEXT,
    data    BLOB    NOT NULL,
    PRIMARY KEY (run_key, seq)
) STRICT, WITHOUT ROWID;

-- Two rare types that are looked for by what they say: published state (60) by name, answers to requests
-- (43) by the request's number. A plain step is in neither index.
CREATE INDEX [history_states] ON [history] (run_key, name, seq) WHERE type = 60;
CREATE INDEX [history_replies] ON [history] (run_key, cmd) WHERE type = 43;

CREATE TABLE [inbox] (
    run_key INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    data    BLOB    NOT NULL,
    PRIMARY KEY (run_key, n)
) STRICT, WITHOUT ROWID;

-- Messages that must not be taken twice, for as long as the run is kept. Keys of durable's own begin with ~.
CREATE TABLE [inbox_keys] (
    run_key INTEGER NOT NULL,
    key     TEXT    NOT NULL,
    n       INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (run_key, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE [event_types] (
    code INTEGER PRIMARY KEY,
    name TEXT    NOT NULL UNIQUE
) STRICT;

CREATE VIEW [readable_runs] AS
SELECT r.key, r.id, l.workflow, l.version, l.queue,
       CASE r.hold WHEN 1 THEN 'paused' WHEN 2 THEN 'blocked' ELSE r.status END AS status,
       r.priority, w.name AS worker, w.host, r.epoch, r.seq, r.inbox_head - r.consumed AS unread, r.recoveries,
       r.waiting_for, r.tags, p.id AS parent_id,
       strftime('%Y-%m-%d %H:%M:%f', r.ready_at / 1e6, 'unixepoch') AS ready_at,
       strftime('%Y-%m-%d %H:%M:%f', r.created_at / 1e6, 'unixepoch') AS created_at,
       strftime('%Y-%m-%d %H:%M:%f', r.started_at / 1e6, 'unixepoch') AS started_at,
       strftime('%Y-%m-%d %H:%M:%f', r.finished_at / 1e6, 'unixepoch') AS finished_at
FROM [runs] r JOIN [lanes] l ON l.id = r.lane LEFT JOIN [runs] p ON p.key = r.parent_key
LEFT JOIN [worker_names] w ON w.id = r.owner;

CREATE VIEW [readable_history] AS
SELECT r.id AS run_id, h.seq, coalesce(t.name, h.type) AS type,
       strftime('%Y-%m-%d %H:%M:%f', h.at / 1e6, 'unixepoch') AS at,
       h.cmd, h.name, length(h.data) AS bytes
FROM [history] h JOIN [runs] r ON r.key = h.run_key LEFT JOIN [event_types] t ON t.code = h.type;
