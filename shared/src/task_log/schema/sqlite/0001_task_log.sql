-- The record of all tasks. Times are microseconds since 1970, UTC; the view tasklog has them in words.

CREATE TABLE task_log (
    job_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    target TEXT,
    state TEXT NOT NULL,
    step TEXT,
    outcome TEXT,
    priority INTEGER NOT NULL,
    spec TEXT NOT NULL,
    spec_sha256 TEXT NOT NULL,
    unique_key TEXT,
    run_at INTEGER,
    again_at INTEGER,
    expires_at INTEGER,
    deadline_s INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    was_lost INTEGER NOT NULL DEFAULT 0,
    stuck_job TEXT,
    lease_epoch INTEGER NOT NULL DEFAULT 0,
    lease_worker TEXT,
    lease_until INTEGER,
    cancel_requested_at INTEGER,
    cancel_requested_by TEXT,
    progress_bytes INTEGER,
    progress_bytes_expected INTEGER,
    progress_at INTEGER,
    door TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    labels TEXT NOT NULL,
    channels TEXT NOT NULL,
    slot_schedule TEXT,
    slot_at INTEGER,
    reply_to TEXT,
    correlation_id TEXT,
    traceparent TEXT,
    backup_id TEXT,
    result TEXT,
    error_class TEXT,
    error_message TEXT,
    tool TEXT,
    tool_exit INTEGER,
    rows_done INTEGER,
    bytes_in INTEGER,
    bytes_out INTEGER,
    event_seq INTEGER NOT NULL DEFAULT 0,
    event_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER
) STRICT;

-- One active task per database.
CREATE UNIQUE INDEX task_log_one_active ON task_log (target)
    WHERE state IN ('running', 'recovering', 'stuck')
        AND kind IN ('migrate', 'rehearse', 'backup') AND stuck_job IS NULL;
CREATE INDEX task_log_open ON task_log (state, kind)
    WHERE state IN ('scheduled', 'queued', 'waiting', 'running', 'recovering', 'stuck');
CREATE INDEX task_log_unique_key ON task_log (unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('scheduled', 'queued');
CREATE INDEX task_log_newest ON task_log (created_at, job_id);
CREATE INDEX task_log_of_target ON task_log (target, created_at);

CREATE TABLE task_attempt (
    job_id TEXT NOT NULL REFERENCES task_log ON DELETE CASCADE,
    epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    ended_as TEXT,
    error_class TEXT,
    error_message TEXT,
    PRIMARY KEY (job_id, epoch)
) STRICT;

-- Append-only. Each hash covers the one before it; the first covers spec_sha256.
CREATE TABLE task_event (
    job_id TEXT NOT NULL REFERENCES task_log ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
) STRICT;

-- The outbox.
CREATE TABLE event_delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL REFERENCES task_log ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    channel TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL,
    last_error TEXT,
    done_at INTEGER
) STRICT;
CREATE INDEX event_delivery_pending ON event_delivery (due_at) WHERE state = 'pending';
CREATE INDEX event_delivery_of_job ON event_delivery (job_id, channel);

CREATE TABLE worker (
    id TEXT PRIMARY KEY,
    program TEXT NOT NULL,
    host TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    pid INTEGER NOT NULL,
    start_ticks INTEGER NOT NULL,
    first_seen_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL
) STRICT;

CREATE TABLE schedule (
    name TEXT PRIMARY KEY,
    last_slot INTEGER NOT NULL,
    job_id TEXT NOT NULL
) STRICT;

CREATE TABLE job_tombstone (
    job_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    target TEXT,
    state TEXT NOT NULL,
    spec_sha256 TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    last_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    removed_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER task_event_is_not_changed BEFORE UPDATE ON task_event
BEGIN
    SELECT RAISE(ABORT, 'task_event is append-only');
END;

-- Only with its whole task: that one is gone already when the deletion reaches its events.
CREATE TRIGGER task_event_goes_with_its_task BEFORE DELETE ON task_event
WHEN EXISTS (SELECT 1 FROM task_log WHERE job_id = OLD.job_id)
    OR NOT EXISTS (SELECT 1 FROM job_tombstone WHERE job_id = OLD.job_id)
BEGIN
    SELECT RAISE(ABORT, 'task_event is append-only');
END;

CREATE TRIGGER task_log_leaves_a_tombstone BEFORE DELETE ON task_log
WHEN OLD.state NOT IN ('succeeded', 'refused', 'restored', 'failed', 'cancelled', 'expired')
    OR NOT EXISTS (SELECT 1 FROM job_tombstone WHERE job_id = OLD.job_id AND last_hash = OLD.event_hash)
BEGIN
    SELECT RAISE(ABORT, 'a task is only removed when it has ended and its tombstone stands');
END;

CREATE VIEW tasklog AS
SELECT t.job_id AS id,
    t.kind || coalesce(':' || t.target, '') AS task_name,
    CASE WHEN t.state IN ('running', 'recovering')
            AND t.lease_until <= CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)
        THEN 'unknown' ELSE t.state END AS status,
    w.program || '@' || w.host || ':' || w.pid AS worker,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.started_at / 1000000.0, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.finished_at / 1000000.0, 'unixepoch') AS finished_at,
    (t.finished_at - t.started_at) / 1000000.0 AS duration_s,
    t.error_message AS error,
    t.result AS result
FROM task_log AS t LEFT JOIN worker AS w ON w.id = t.lease_worker;
