-- Queries that look back: diff, undo, trace and verify, read as queries.sql is.

-- name: loads_of_run
-- The loads that a run committed, in their order; a task that Airflow repeats may have committed several. By the view,
-- because who reads the prices as of a run may not read the table.
SELECT load, loaded_at, undone_by FROM stock_price_loads WHERE run_id = %(run_id)s ORDER BY load;

-- name: loads_of_others
-- Loads of other runs between those of one, where they were not undone.
SELECT load FROM loads
WHERE load BETWEEN %(first)s AND %(last)s AND run_id <> %(run_id)s AND kind = 'load' AND undone_by IS NULL;

-- name: journal_gap
-- Until when the journal is gone, if it is gone behind a load.
SELECT max(loaded_at) AT TIME ZONE 'UTC' FROM loads WHERE load > %(after)s AND NOT journal_kept;

-- name: journal_size
-- Changes by the planner's estimate where the journal is large, exactly where it is small.
SELECT CASE WHEN c.reltuples > 100000 THEN c.reltuples::bigint ELSE (SELECT count(*) FROM price_changes) END,
       (SELECT count(*) FROM loads WHERE journal_kept AND undone_by IS NULL),
       pg_total_relation_size(c.oid) + pg_total_relation_size('ledger_changes'),
       (SELECT min(loaded_at) FROM loads WHERE load > coalesce((SELECT max(load) FROM loads WHERE NOT journal_kept), 0))
FROM pg_class c WHERE c.oid = 'price_changes'::regclass;

-- name: touched_companies
-- Companies that loads changed, and whether days were added at their end and nothing else was done.
SELECT company_name, bool_and(change = 'grew'), sum(rows)::bigint, min(stock_date), max(last_date)
FROM price_changes WHERE load > %(after)s AND load <= %(until)s AND company_name IS NOT NULL
GROUP BY company_name ORDER BY company_name;

-- name: diff_by_company
-- Rows that differ between two loads, counted by company.
SELECT company_name,
       count(*) FILTER (WHERE a.company_name IS NOT NULL AND b.company_name IS NOT NULL),
       count(*) FILTER (WHERE b.company_name IS NULL), count(*) FILTER (WHERE a.company_name IS NULL),
       min(stock_date), max(stock_date)
FROM (SELECT * FROM rows_as_of_load(%(after)s) WHERE company_name = ANY(%(companies)s)) a
FULL JOIN (SELECT * FROM rows_as_of_load(%(until)s) WHERE company_name = ANY(%(companies)s)) b
    USING (company_name, stock_date)
WHERE a IS DISTINCT FROM b
GROUP BY company_name;

-- name: diff_by_row
-- The same, row by row, with the values of before and after.
SELECT company_name, stock_date,
    CASE WHEN a.company_name IS NOT NULL THEN
        ARRAY[a.open_value, a.high_value, a.low_value, a.close_value, a.volume_traded, a.daily_percent_change, a.value_change]
    END,
    CASE WHEN b.company_name IS NOT NULL THEN
        ARRAY[b.open_value, b.high_value, b.low_value, b.close_value, b.volume_traded, b.daily_percent_change, b.value_change]
    END
FROM (SELECT * FROM rows_as_of_load(%(after)s) WHERE company_name = ANY(%(companies)s)) a
FULL JOIN (SELECT * FROM rows_as_of_load(%(until)s) WHERE company_name = ANY(%(companies)s)) b
    USING (company_name, stock_date)
WHERE a IS DISTINCT FROM b
ORDER BY company_name, stock_date;

-- name: undoable_load
-- The last load that changed something, or the first one of a run; no undo is undone.
SELECT CASE WHEN %(run_id)s::text IS NULL
            THEN max(load) FILTER (WHERE EXISTS (SELECT FROM price_changes c WHERE c.load = loads.load))
            ELSE min(load) FILTER (WHERE run_id = %(run_id)s) END
FROM loads WHERE kind = 'load' AND undone_by IS NULL AND journal_kept;

-- name: moved_without_journal
-- Runs whose loads behind a load changed rows, the last one first. The receipts of a run's loads are as many, in their order.
SELECT run_id
FROM (
    SELECT load, run_id, undone_by, row_number() OVER (PARTITION BY run_id ORDER BY load DESC) AS nth_last
    FROM loads WHERE kind = 'load'
) l
JOIN (
    SELECT run_id, (receipt->'rows'->>'inserted')::bigint + (receipt->'rows'->>'deleted')::bigint AS moved,
           row_number() OVER (PARTITION BY run_id ORDER BY number DESC) AS nth_last
    FROM pipeline_runs WHERE state = 'success' AND receipt->>'undone' IS NULL
) r USING (run_id, nth_last)
WHERE load > %(load)s AND undone_by IS NULL AND moved > 0
ORDER BY load DESC;

-- name: undone_loads
-- The loads that are undone with a load, it and all later ones, and their runs.
SELECT load, run_id FROM loads WHERE load >= %(load)s AND kind = 'load' AND undone_by IS NULL ORDER BY load;

-- name: restore_ledger
-- The ledger's entries as they were before a load, of companies whose rows were taken back, and of those whose rows are
-- the same: without a run that is undone, or the order of its file. What was only respelled keeps its new entry.
WITH first AS (
    SELECT DISTINCT ON (company_name) * FROM ledger_changes WHERE load >= %(load)s ORDER BY company_name, load
), before AS (
    SELECT f.* FROM first f JOIN loaded_companies l USING (company_name)
    WHERE company_name = ANY(%(companies)s) OR f.sha256 = l.sha256
        OR coalesce(f.sha256_by_day, f.sha256) = coalesce(l.sha256_by_day, l.sha256)
        OR (f.sha256 IS NULL AND l.rows = 0)
), gone AS (
    DELETE FROM loaded_companies USING before
    WHERE before.company_name = loaded_companies.company_name AND before.sha256 IS NULL
)
UPDATE loaded_companies l
SET sha256 = b.sha256, length = b.length, rows = b.rows, run_id = b.run_id, loaded_at = b.loaded_at, last_day = b.last_day,
    sha256_by_day = b.sha256_by_day
FROM before b WHERE b.company_name = l.company_name AND b.sha256 IS NOT NULL;

-- name: mixed_companies
-- Companies of which a load that is undone had found rows that others had written.
SELECT DISTINCT company_name FROM restatements WHERE load >= %(load)s AND kind = 'mixed' ORDER BY company_name;

-- name: correct_ledger_entry
-- What the table really holds of a company, where that is spelled otherwise than its old slice was.
UPDATE loaded_companies SET sha256 = %(sha256)s, length = %(length)s, sha256_by_day = NULL
WHERE company_name = %(company)s AND rows = %(rows)s;

-- name: forget_undone
-- The journal of what was taken back.
WITH prices AS (DELETE FROM price_changes WHERE load >= %(load)s),
     ledger AS (DELETE FROM ledger_changes WHERE load >= %(load)s),
     named AS (DELETE FROM restatements WHERE load >= %(load)s)
UPDATE loads SET undone_by = %(run_id)s WHERE load >= %(load)s AND kind = 'load' AND undone_by IS NULL;

-- name: one_snapshot
-- All that follows in this transaction sees the same moment, whatever is loaded meanwhile.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: whole_ledger
-- Every entry of the ledger.
SELECT company_name, sha256, length, rows, sha256_by_day FROM loaded_companies ORDER BY company_name;

-- name: read_rows
-- Rows as they are in the combined file, the companies' rows one behind the other, by day or by place; the braces are
-- filled with a quoted literal and a name. An empty text, which no load writes, is not what the one field is that may be null.
COPY (
    SELECT stock_date, open_value, high_value, low_value, close_value, volume_traded,
           CASE daily_percent_change WHEN '' THEN '""' ELSE daily_percent_change END, value_change, company_name
    FROM historical_stocks_data
    WHERE {companies}::text[] IS NULL OR company_name = ANY ({companies}::text[])
    ORDER BY company_name, {order}
) TO STDOUT (FORMAT text, DELIMITER ',', NULL '', ENCODING 'UTF8');

-- name: all_receipts
-- Every receipt that is recorded, in the order in which they were.
SELECT run_id, receipt, sha256 FROM pipeline_runs ORDER BY number;

-- name: loads_without_run
-- Runs with a load and without a receipt.
SELECT DISTINCT run_id FROM loads WHERE kind <> 'upgrade' AND NOT EXISTS (
    SELECT FROM pipeline_runs WHERE pipeline_runs.run_id = loads.run_id
);

-- name: last_load
-- The kind of the last load, and its run.
SELECT kind, run_id FROM loads ORDER BY load DESC LIMIT 1;

-- name: row_of_day
-- One row of a company, as text.
SELECT stock_date, open_value, high_value, low_value, close_value, volume_traded, daily_percent_change, value_change,
       company_name
FROM historical_stocks_data WHERE company_name = %(company)s AND stock_date = %(day)s;

-- name: changes_of_day
-- What loads did to one row, the newest first.
SELECT c.change, l.run_id, l.loaded_at,
       ARRAY[c.open_value, c.high_value, c.low_value, c.close_value, c.volume_traded, c.daily_percent_change, c.value_change]
FROM price_changes c JOIN loads l USING (load)
WHERE c.company_name = %(company)s AND (
    (c.change IN ('changed', 'removed', 'added') AND c.stock_date = %(day)s)
    OR (c.change IN ('new', 'grew') AND %(day)s BETWEEN coalesce(c.stock_date, '') AND coalesce(c.last_date, '9999-12-31'))
)
ORDER BY load DESC;

-- name: receipt_of_run
-- The last receipt of a run.
SELECT receipt FROM pipeline_runs WHERE run_id = %(run_id)s ORDER BY number DESC LIMIT 1;
