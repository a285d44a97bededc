-- The newest receipts, newest first.
SELECT receipt FROM pipeline_runs ORDER BY started_at DESC LIMIT %(limit)s;
