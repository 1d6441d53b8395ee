-- What tasks write down that must be finished or taken back: their steps, and what tools printed.

CREATE TABLE task_step (
    job_id TEXT NOT NULL REFERENCES task_log ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    at INTEGER NOT NULL,
    step TEXT NOT NULL,
    phase TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
) STRICT;

CREATE TABLE task_output (
    job_id TEXT NOT NULL REFERENCES task_log ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    step TEXT NOT NULL,
    at INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
) STRICT;

CREATE TRIGGER task_step_is_not_changed BEFORE UPDATE ON task_step
BEGIN
    SELECT RAISE(ABORT, 'task_step is append-only');
END;

CREATE TRIGGER task_output_is_not_changed BEFORE UPDATE ON task_output
BEGIN
    SELECT RAISE(ABORT, 'task_output is append-only');
END;

-- Only with their whole task, as events.
CREATE TRIGGER task_step_goes_with_its_task BEFORE DELETE ON task_step
WHEN EXISTS (SELECT 1 FROM task_log WHERE job_id = OLD.job_id)
    OR NOT EXISTS (SELECT 1 FROM job_tombstone WHERE job_id = OLD.job_id)
BEGIN
    SELECT RAISE(ABORT, 'task_step is append-only');
END;

CREATE TRIGGER task_output_goes_with_its_task BEFORE DELETE ON task_output
WHEN EXISTS (SELECT 1 FROM task_log WHERE job_id = OLD.job_id)
    OR NOT EXISTS (SELECT 1 FROM job_tombstone WHERE job_id = OLD.job_id)
BEGIN
    SELECT RAISE(ABORT, 'task_output is append-only');
END;

-- A restore in place keeps others away too. The spec is canonical JSON: no spaces, quotes inside of texts escaped.
DROP INDEX task_log_one_active;
CREATE UNIQUE INDEX task_log_one_active ON task_log (target)
    WHERE state IN ('running', 'recovering', 'stuck')
        AND (kind IN ('migrate', 'rehearse', 'backup')
            OR kind = 'restore' AND instr(spec, '"in_place":true') > 0)
        AND stuck_job IS NULL;

-- One helper at a time for each stuck task.
CREATE UNIQUE INDEX task_log_one_helper ON task_log (stuck_job)
    WHERE state IN ('running', 'recovering', 'stuck') AND stuck_job IS NOT NULL;
