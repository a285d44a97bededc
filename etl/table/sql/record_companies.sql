-- The ledger's new entries, in the same transaction as the rows.
INSERT INTO loaded_companies (company_name, sha256, length, rows, run_id)
SELECT company_name, sha256, length, rows, %(run_id)s
FROM unnest(%(companies)s::text[], %(sha256)s::text[], %(lengths)s::bigint[], %(rows)s::bigint[])
    AS slice (company_name, sha256, length, rows)
ON CONFLICT (company_name) DO UPDATE
SET sha256 = excluded.sha256, length = excluded.length, rows = excluded.rows, run_id = excluded.run_id, loaded_at = now();
