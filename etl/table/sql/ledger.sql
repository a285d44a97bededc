-- What was last loaded, for the companies of this batch.
SELECT company_name, sha256, length, rows, run_id, loaded_at FROM loaded_companies WHERE company_name = ANY(%(companies)s);
