-- What was last loaded, for the companies of this batch.
SELECT company_name, sha256, rows, run_id FROM loaded_companies WHERE company_name = ANY(%(companies)s);
