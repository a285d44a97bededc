-- The receipt of an attempt whose COMMIT was not answered: if it is there, the load took effect.
SELECT receipt FROM pipeline_runs WHERE attempt_id = %(attempt_id)s;
