-- The receipt of a run's first attempt that was committed: later ones of the same run find its rows there.
SELECT receipt FROM pipeline_runs WHERE run_id = %(run_id)s AND state = 'success' ORDER BY elapsed_seconds LIMIT 1;
