-- The receipt that a new load is compared with.
SELECT receipt FROM pipeline_runs WHERE state = 'success' ORDER BY started_at DESC LIMIT 1;
