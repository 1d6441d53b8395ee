-- With these a claim takes the same time however many tasks wait: it walks the waiting ones in the order they are handed
-- out, and looks up what is active. The conditions stand in the queries word by word.
CREATE INDEX task_log_next ON task_log (
        (CASE state WHEN 'recovering' THEN 0 ELSE 1 END), was_lost DESC, priority DESC,
        coalesce(again_at, run_at, created_at), created_at, job_id)
    WHERE state IN ('scheduled', 'queued', 'recovering');
CREATE INDEX task_log_active ON task_log (target) WHERE state IN ('running', 'recovering', 'stuck');
CREATE INDEX task_log_expires ON task_log (expires_at)
    WHERE state IN ('scheduled', 'queued', 'waiting') AND expires_at IS NOT NULL;
CREATE INDEX task_log_helps ON task_log (stuck_job)
    WHERE state IN ('scheduled', 'queued', 'waiting') AND stuck_job IS NOT NULL;
