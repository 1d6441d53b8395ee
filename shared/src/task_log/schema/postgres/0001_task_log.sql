-- The record of all tasks. Times are microseconds since 1970, UTC; the view tasklog has them in words.

CREATE TABLE task_log (
    job_id text PRIMARY KEY,
    kind text NOT NULL,
    target text,
    state text NOT NULL,
    step text,
    outcome text,
    priority bigint NOT NULL,
    spec text NOT NULL,
    spec_sha256 text NOT NULL,
    unique_key text,
    run_at bigint,
    again_at bigint,
    expires_at bigint,
    deadline_s bigint,
    attempt bigint NOT NULL DEFAULT 0,
    max_attempts bigint NOT NULL,
    was_lost bigint NOT NULL DEFAULT 0,
    stuck_job text,
    lease_epoch bigint NOT NULL DEFAULT 0,
    lease_worker text,
    lease_until bigint,
    cancel_requested_at bigint,
    cancel_requested_by text,
    progress_bytes bigint,
    progress_bytes_expected bigint,
    progress_at bigint,
    door text NOT NULL,
    requested_by text NOT NULL,
    labels text NOT NULL,
    channels text NOT NULL,
    slot_schedule text,
    slot_at bigint,
    reply_to text,
    correlation_id text,
    traceparent text,
    backup_id text,
    result text,
    error_class text,
    error_message text,
    tool text,
    tool_exit bigint,
    rows_done bigint,
    bytes_in bigint,
    bytes_out bigint,
    event_seq bigint NOT NULL DEFAULT 0,
    event_hash text NOT NULL,
    created_at bigint NOT NULL,
    started_at bigint,
    finished_at bigint
);

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
    job_id text NOT NULL REFERENCES task_log ON DELETE CASCADE,
    epoch bigint NOT NULL,
    attempt bigint NOT NULL,
    worker text NOT NULL,
    started_at bigint NOT NULL,
    ended_at bigint,
    ended_as text,
    error_class text,
    error_message text,
    PRIMARY KEY (job_id, epoch)
);

-- Append-only. Each hash covers the one before it; the first covers spec_sha256.
CREATE TABLE task_event (
    job_id text NOT NULL REFERENCES task_log ON DELETE CASCADE,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    what text NOT NULL,
    detail text NOT NULL,
    hash text NOT NULL,
    PRIMARY KEY (job_id, seq)
);

-- The outbox.
CREATE TABLE event_delivery (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id text NOT NULL REFERENCES task_log ON DELETE CASCADE,
    seq bigint NOT NULL,
    channel text NOT NULL,
    state text NOT NULL DEFAULT 'pending',
    attempts bigint NOT NULL DEFAULT 0,
    due_at bigint NOT NULL,
    last_error text,
    done_at bigint
);
CREATE INDEX event_delivery_pending ON event_delivery (due_at) WHERE state = 'pending';
CREATE INDEX event_delivery_of_job ON event_delivery (job_id, channel);

CREATE TABLE worker (
    id text PRIMARY KEY,
    program text NOT NULL,
    host text NOT NULL,
    boot_id text NOT NULL,
    pid bigint NOT NULL,
    start_ticks bigint NOT NULL,
    first_seen_at bigint NOT NULL,
    last_seen_at bigint NOT NULL
);

CREATE TABLE schedule (
    name text PRIMARY KEY,
    last_slot bigint NOT NULL,
    job_id text NOT NULL
);

CREATE TABLE job_tombstone (
    job_id text PRIMARY KEY,
    kind text NOT NULL,
    target text,
    state text NOT NULL,
    spec_sha256 text NOT NULL,
    last_seq bigint NOT NULL,
    last_hash text NOT NULL,
    created_at bigint NOT NULL,
    finished_at bigint,
    removed_at bigint NOT NULL
);

CREATE FUNCTION task_event_refuses() RETURNS trigger LANGUAGE plpgsql SET search_path = holdfast, pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'task_event is append-only';
END $$;

CREATE TRIGGER task_event_is_not_changed BEFORE UPDATE ON task_event
    FOR EACH ROW EXECUTE FUNCTION task_event_refuses();
CREATE TRIGGER task_event_is_not_emptied BEFORE TRUNCATE ON task_event
    FOR EACH STATEMENT EXECUTE FUNCTION task_event_refuses();

-- Only with its whole task: that one is gone already when the deletion reaches its events.
CREATE FUNCTION task_event_goes_with_its_task() RETURNS trigger LANGUAGE plpgsql
    SET search_path = holdfast, pg_catalog AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM task_log WHERE job_id = OLD.job_id)
        OR NOT EXISTS (SELECT 1 FROM job_tombstone WHERE job_id = OLD.job_id) THEN
        RAISE EXCEPTION 'task_event is append-only';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER task_event_goes_with_its_task BEFORE DELETE ON task_event
    FOR EACH ROW EXECUTE FUNCTION task_event_goes_with_its_task();

CREATE FUNCTION task_log_leaves_a_tombstone() RETURNS trigger LANGUAGE plpgsql
    SET search_path = holdfast, pg_catalog AS $$
BEGIN
    IF OLD.state NOT IN ('succeeded', 'refused', 'restored', 'failed', 'cancelled', 'expired')
        OR NOT EXISTS (SELECT 1 FROM job_tombstone WHERE job_id = OLD.job_id AND last_hash = OLD.event_hash) THEN
        RAISE EXCEPTION 'a task is only removed when it has ended and its tombstone stands';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER task_log_leaves_a_tombstone BEFORE DELETE ON task_log
    FOR EACH ROW EXECUTE FUNCTION task_log_leaves_a_tombstone();

CREATE VIEW tasklog AS
SELECT t.job_id AS id,
    t.kind || coalesce(':' || t.target, '') AS task_name,
    CASE WHEN t.state IN ('running', 'recovering')
            AND t.lease_until <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
        THEN 'unknown' ELSE t.state END AS status,
    w.program || '@' || w.host || ':' || w.pid AS worker,
    to_timestamp(t.started_at / 1000000.0) AS started_at,
    to_timestamp(t.finished_at / 1000000.0) AS finished_at,
    ((t.finished_at - t.started_at) / 1000000.0)::double precision AS duration_s,
    t.error_message AS error,
    t.result AS result
FROM task_log AS t LEFT JOIN worker AS w ON w.id = t.lease_worker;
