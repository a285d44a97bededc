-- Queries of rejected and flagged rows and quarantined files, read as queries.sql is.

-- name: forget_rejected_of_run
-- What an earlier attempt of this run has recorded.
WITH rows AS (DELETE FROM rejected_rows WHERE run_id = %(run_id)s) DELETE FROM quarantined_files WHERE run_id = %(run_id)s;

-- name: copy_rejected
-- Rejected rows of one run.
COPY rejected_rows (run_id, file, line, column_name, value, reason, raw_line) FROM STDIN (FORMAT csv, ENCODING 'UTF8');

-- name: record_quarantined
-- Quarantined files of one run.
INSERT INTO quarantined_files (run_id, file, reason)
SELECT %(run_id)s, file, reason FROM unnest(%(files)s::text[], %(reasons)s::text[]) AS q (file, reason);

-- name: forget_old_rejected
-- What runs have recorded that are older than the journal is to be kept.
WITH rows AS (DELETE FROM rejected_rows WHERE recorded_at < clock_timestamp() - %(days)s * interval '1 day')
DELETE FROM quarantined_files WHERE recorded_at < clock_timestamp() - %(days)s * interval '1 day';

-- name: rejected_of_run
-- The rejected rows that are recorded of a run.
SELECT file, line, column_name, value, reason, raw_line FROM rejected_rows WHERE run_id = %(run_id)s ORDER BY file, line;

-- name: quarantined_of_run
-- Its quarantined files.
SELECT file, reason FROM quarantined_files WHERE run_id = %(run_id)s ORDER BY file;

-- name: last_run_with_files
-- The last run that looked at company files: every one but an undo.
SELECT run_id FROM pipeline_runs WHERE receipt->>'undone' IS NULL ORDER BY number DESC LIMIT 1;

-- name: make_incoming_flags
-- Where the flags of a batch wait to be compared with those that are recorded; gone with the transaction.
CREATE TEMPORARY TABLE incoming_flags (
    company_name text, stock_date text, line bigint, column_name text, value text, rule text
) ON COMMIT DROP;

-- name: copy_incoming_flags
-- The flags of a batch.
COPY incoming_flags FROM STDIN (FORMAT csv, ENCODING 'UTF8');

-- name: take_flags_back
-- Flags of these companies that are not in the batch any more, into their journal.
WITH gone AS (
    DELETE FROM flagged_rows f
    WHERE f.company_name = ANY(%(companies)s) AND NOT EXISTS (
        SELECT FROM incoming_flags i
        WHERE i.company_name = f.company_name AND i.stock_date = f.stock_date AND i.line = f.line
          AND i.column_name = f.column_name AND i.value = f.value AND i.rule = f.rule
    )
    RETURNING load, company_name, stock_date, line, column_name, value, rule
)
INSERT INTO flag_changes (load, company_name, stock_date, line, column_name, value, rule, until_load)
SELECT load, company_name, stock_date, line, column_name, value, rule, %(load)s FROM gone;

-- name: record_flags
-- Flags of these companies that are new.
INSERT INTO flagged_rows (load, company_name, stock_date, line, column_name, value, rule)
SELECT %(load)s, company_name, stock_date, line, column_name, value, rule FROM incoming_flags
WHERE company_name = ANY(%(companies)s)
ON CONFLICT (company_name, stock_date) DO NOTHING;

-- name: take_all_flags_back
-- The table was emptied: flags of what it held say nothing any more.
WITH gone AS (DELETE FROM flagged_rows RETURNING load, company_name, stock_date, line, column_name, value, rule)
INSERT INTO flag_changes (load, company_name, stock_date, line, column_name, value, rule, until_load)
SELECT load, company_name, stock_date, line, column_name, value, rule, %(load)s FROM gone;

-- name: forget_flags_since
-- Flags of these companies that loads have made which are undone.
DELETE FROM flagged_rows WHERE load >= %(load)s AND company_name = ANY(%(companies)s);

-- name: restore_flags
-- Flags that these loads had taken back. A row that is respelled keeps its new spelling, so the flag gets it too.
WITH back AS (
    DELETE FROM flag_changes WHERE until_load >= %(load)s AND company_name = ANY(%(companies)s)
    RETURNING load, company_name, stock_date, line, column_name, value, rule
)
INSERT INTO flagged_rows (load, company_name, stock_date, line, column_name, value, rule)
SELECT load, company_name, stock_date, line, column_name, coalesce(
    (SELECT CASE back.column_name
         WHEN 'Open' THEN t.open_value WHEN 'High' THEN t.high_value WHEN 'Low' THEN t.low_value ELSE t.close_value END
     FROM historical_stocks_data t WHERE t.company_name = back.company_name AND t.stock_date = back.stock_date),
    value
), rule FROM back WHERE load < %(load)s;

-- name: flags_without_rows
-- Companies with flags of rows that the table does not have, or has with another value.
SELECT f.company_name, count(*) FROM flagged_rows f
WHERE NOT EXISTS (
    SELECT FROM historical_stocks_data t
    WHERE t.company_name = f.company_name AND t.stock_date = f.stock_date AND f.value = CASE f.column_name
        WHEN 'Open' THEN t.open_value WHEN 'High' THEN t.high_value WHEN 'Low' THEN t.low_value ELSE t.close_value END
)
GROUP BY f.company_name ORDER BY f.company_name;

-- name: flags_by_company
-- How many flags each company has.
SELECT company_name, count(*) FROM flagged_rows GROUP BY company_name;
