-- A migration waits with its plan until somebody approves that very plan. Who approved what also stands in task_event, and
-- is compared with it whenever the events are read.
ALTER TABLE task_log ADD COLUMN plan_sha256 TEXT;
ALTER TABLE task_log ADD COLUMN approved_by TEXT;
ALTER TABLE task_log ADD COLUMN approval_comment TEXT;

-- What waits for approval is what another of its key would only repeat.
DROP INDEX task_log_unique_key;
CREATE INDEX task_log_unique_key ON task_log (unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('scheduled', 'queued', 'waiting');
