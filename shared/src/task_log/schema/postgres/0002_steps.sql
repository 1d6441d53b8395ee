-- What tasks write down that must be finished or taken back: their steps, and what tools printed.

CREATE TABLE task_step (
    job_id text NOT NULL REFERENCES task_log ON DELETE CASCADE,
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    at bigint NOT NULL,
    step text NOT NULL,
    phase text NOT NULL,
    data text NOT NULL,
    PRIMARY KEY (job_id, seq)
);

CREATE TABLE task_output (
    job_id text NOT NULL REFERENCES task_log ON DELETE CASCADE,
    seq bigint NOT NULL,
    step text NOT NULL,
    at bigint NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (job_id, seq)
);

CREATE FUNCTION task_part_refuses() RETURNS trigger LANGUAGE plpgsql SET search_path = holdfast, pg_catalog AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;

-- Only with their whole task, as events.
CREATE FUNCTION task_part_goes_with_its_task() RETURNS trigger LANGUAGE plpgsql
    SET search_path = holdfast, pg_catalog AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM task_log WHERE job_id = OLD.job_id)
        OR NOT EXISTS (SELECT 1 FROM job_tombstone WHERE job_id = OLD.job_id) THEN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
    END IF;
    RETURN OLD;
END $$;

CREATE TRIGGER task_step_is_not_changed BEFORE UPDATE ON task_step
    FOR EACH ROW EXECUTE FUNCTION task_part_refuses();
CREATE TRIGGER task_step_is_not_emptied BEFORE TRUNCATE ON task_step
    FOR EACH STATEMENT EXECUTE FUNCTION task_part_refuses();
CREATE TRIGGER task_step_goes_with_its_task BEFORE DELETE ON task_step
    FOR EACH ROW EXECUTE FUNCTION task_part_goes_with_its_task();
CREATE TRIGGER task_output_is_not_changed BEFORE UPDATE ON task_output
    FOR EACH ROW EXECUTE FUNCTION task_part_refuses();
CREATE TRIGGER task_output_is_not_emptied BEFORE TRUNCATE ON task_output
    FOR EACH STATEMENT EXECUTE FUNCTION task_part_refuses();
CREATE TRIGGER task_output_goes_with_its_task BEFORE DELETE ON task_output
    FOR EACH ROW EXECUTE FUNCTION task_part_goes_with_its_task();

-- A restore in place keeps others away too. The spec is canonical JSON: no spaces, quotes inside of texts escaped.
DROP INDEX task_log_one_active;
CREATE UNIQUE INDEX task_log_one_active ON task_log (target)
    WHERE state IN ('running', 'recovering', 'stuck')
        AND (kind IN ('migrate', 'rehearse', 'backup')
            OR kind = 'restore' AND position('"in_place":true' IN spec) > 0)
        AND stuck_job IS NULL;

-- One helper at a time for each stuck task.
CREATE UNIQUE INDEX task_log_one_helper ON task_log (stuck_job)
    WHERE state IN ('running', 'recovering', 'stuck') AND stuck_job IS NOT NULL;
