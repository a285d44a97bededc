-- One attempted run.
INSERT INTO pipeline_runs (attempt_id, run_id, state, started_at, elapsed_seconds, receipt)
VALUES (%(attempt_id)s, %(run_id)s, %(state)s, %(started_at)s, %(elapsed_seconds)s, %(receipt)s);
