-- The conversation with the database, but for schema.sql and insert_query.sql: one named query after another.
-- Each begins with its name; etl/table/database.py reads the file once.

-- name: session
-- How long a statement waits for somebody else's lock, and that it is a load that writes. Other settings of the URL stay.
-- Local to the transaction: behind a pooler the session is somebody else's next.
SELECT set_config('lock_timeout', %(milliseconds)s, true), set_config('moving_big_data.loading', 'on', true);

-- name: lock
-- One load at a time; the lock goes with the transaction, however that ends. Asked again and again rather than waited
-- for, because a process that waits inside the server does not hear a signal.
SELECT pg_try_advisory_xact_lock(hashtext('historical_stocks_data'));

-- name: lock_holder
-- Who holds the load's lock, for the message of the one that waited in vain.
SELECT a.pid, a.application_name, a.usename, a.xact_start
FROM pg_locks l
JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((l.classid::bigint << 32) | l.objid::bigint) = (hashtext('historical_stocks_data')::bigint);

-- name: columns_of_table
-- The table as it is, to be compared with the contract before anything is loaded.
SELECT column_name || ' ' || data_type || coalesce('(' || character_maximum_length || ')', '')
FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = 'historical_stocks_data'
ORDER BY ordinal_position;

-- name: table_state
-- Has the table rows; has it any by the ledger; and does it note writes from outside the pipeline?
SELECT
    EXISTS (SELECT FROM historical_stocks_data),
    EXISTS (SELECT FROM loaded_companies WHERE rows > 0),
    EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'historical_stocks_data'::regclass AND tgname = 'note_change_by_hand' AND tgenabled IN ('O', 'A')
    );

-- name: outside_writes
-- Who wrote to the table outside the pipeline.
SELECT changed_by, operation, changed_at FROM changes_by_hand ORDER BY changed_at;

-- name: differing_companies
-- Companies whose rows in the table are not as many as the ledger says.
SELECT coalesce(t.company_name, l.company_name, '(null)'), coalesce(t.rows, 0), coalesce(l.rows, 0)
FROM (SELECT company_name, count(*) AS rows FROM historical_stocks_data GROUP BY company_name) t
FULL JOIN loaded_companies l USING (company_name)
WHERE coalesce(t.rows, 0) <> coalesce(l.rows, 0)
ORDER BY 1;

-- name: note_outside_write
-- A change that the table's trigger did not see, so that the next loads look again until it is corrected.
INSERT INTO changes_by_hand (changed_by, operation) VALUES ('somebody unknown', 'CHANGE');

-- name: forget_outside_writes
-- After a load that corrected everything: the notes that it has read, if its batch has every company ever loaded.
DELETE FROM changes_by_hand
WHERE (changed_by, operation, changed_at) IN (
    SELECT * FROM unnest(%(users)s::text[], %(operations)s::text[], %(times)s::timestamptz[])
) AND NOT EXISTS (SELECT FROM loaded_companies WHERE company_name <> ALL (%(companies)s::text[]));

-- name: ledger_entries
-- What was last loaded, for the companies of this batch.
SELECT company_name, sha256, length, rows, run_id, loaded_at, last_day, sha256_by_day
FROM loaded_companies WHERE company_name = ANY(%(companies)s);

-- name: companies_in_table
-- Which of these companies have rows in the table; asked only for those that the ledger does not know.
SELECT company_name FROM unnest(%(companies)s::text[]) AS batch (company_name)
WHERE EXISTS (SELECT FROM historical_stocks_data AS row WHERE row.company_name = batch.company_name);

-- name: rows_before_day
-- What would go when these companies are replaced by their rows since a day: older rows, and of how many companies.
SELECT count(*), count(DISTINCT company_name) FROM historical_stocks_data
WHERE company_name = ANY(%(companies)s) AND stock_date < %(since)s;

-- name: has_table_index
-- Does the traders' index exist?
SELECT to_regclass('historical_stocks_data_company_date') IS NOT NULL;

-- name: build_table_index
-- One company's history in milliseconds. Built by the first load behind its COPY, which costs half of what the COPY
-- would pay to maintain it; building it blocks no reader. It is also how a load finds the rows of a changed company.
CREATE INDEX historical_stocks_data_company_date ON historical_stocks_data (company_name, stock_date);

-- name: record_in_ledger
-- The ledger's new entries, in the same transaction as the rows, and the old ones into its journal.
WITH entry AS (
    SELECT * FROM unnest(
        %(companies)s::text[], %(sha256)s::text[], %(lengths)s::bigint[], %(rows)s::bigint[], %(last_days)s::text[],
        %(by_day)s::text[]
    ) AS slice (company_name, sha256, length, rows, last_day, by_day)
), before AS (
    INSERT INTO ledger_changes (load, company_name, sha256, length, rows, run_id, loaded_at, last_day, sha256_by_day)
    SELECT %(load)s, entry.company_name, old.sha256, old.length, old.rows, old.run_id, old.loaded_at, old.last_day,
           old.sha256_by_day
    FROM entry LEFT JOIN loaded_companies old USING (company_name)
)
INSERT INTO loaded_companies (company_name, sha256, length, rows, run_id, last_day, sha256_by_day)
SELECT company_name, sha256, length, rows, %(run_id)s, last_day, by_day FROM entry
ON CONFLICT (company_name) DO UPDATE
SET sha256 = excluded.sha256, length = excluded.length, rows = excluded.rows, run_id = excluded.run_id,
    loaded_at = now(), last_day = excluded.last_day, sha256_by_day = excluded.sha256_by_day;

-- name: next_load
-- The number of the load that this transaction makes; the load's lock keeps it for us.
SELECT coalesce(max(load), 0) + 1 FROM loads;

-- name: record_load
-- Last before the record and the COMMIT, so that the time is when readers see the rows; no two loads have the same.
INSERT INTO loads (load, run_id, kind, loaded_at)
SELECT %(load)s, %(run_id)s, %(kind)s,
       greatest(clock_timestamp(), (SELECT max(loaded_at) + interval '1 microsecond' FROM loads));

-- name: forget_journal
-- The table was emptied together with the ledger: what it held before is not known any more.
UPDATE loads SET journal_kept = false WHERE load < %(load)s AND journal_kept;

-- name: forget_old_loads
-- The loads that are older than the journal is to be kept.
UPDATE loads SET journal_kept = false
WHERE journal_kept AND load < %(load)s AND loaded_at < clock_timestamp() - %(days)s * interval '1 day'
RETURNING load;

-- name: forget_old_changes
-- Their journal.
WITH ledger AS (DELETE FROM ledger_changes WHERE load <= %(load)s)
DELETE FROM price_changes WHERE load <= %(load)s;

-- name: has_foreign_code
-- Can anything that is not ours change what a COPY or a DELETE does: a trigger, rule, policy, partition or child?
SELECT
    EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'historical_stocks_data'::regclass AND NOT tgisinternal AND tgname <> 'note_change_by_hand'
    )
    OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = 'historical_stocks_data'::regclass)
    OR EXISTS (SELECT FROM pg_inherits WHERE 'historical_stocks_data'::regclass IN (inhparent, inhrelid))
    OR (SELECT relrowsecurity OR relkind <> 'r' FROM pg_class WHERE oid = 'historical_stocks_data'::regclass);

-- name: count_companies
-- How many rows the table holds of each of these companies.
SELECT company_name, count(*) FROM historical_stocks_data WHERE company_name = ANY(%(companies)s) GROUP BY company_name;

-- name: count_tails
-- Of the days that companies have grown by: rows of this transaction, and all rows. More of these: the file is not in
-- the order of its days, and its new days do not follow the last one.
SELECT tail.company_name, count(t.*) FILTER (WHERE t.xmin = pg_current_xact_id()::xid), count(t.*)
FROM unnest(%(companies)s::text[], %(first_days)s::text[], %(last_days)s::text[])
    AS tail (company_name, first_day, last_day)
LEFT JOIN historical_stocks_data t
    ON t.company_name = tail.company_name AND t.stock_date BETWEEN tail.first_day AND tail.last_day
GROUP BY tail.company_name;

-- name: journal_ranges
-- Companies that are new, and days that follow the last one: one row a company, not a day.
INSERT INTO price_changes (load, rows, change, company_name, stock_date, last_date)
SELECT %(load)s, rows, %(change)s, company_name, first_day, last_day
FROM unnest(%(companies)s::text[], %(rows)s::bigint[], %(first_days)s::text[], %(last_days)s::text[])
    AS range (company_name, rows, first_day, last_day);

-- name: journal_scattered_days
-- New days of companies whose files are not in the order of their days.
INSERT INTO price_changes (load, change, company_name, stock_date)
SELECT %(load)s, 'added', company_name, stock_date FROM historical_stocks_data
WHERE company_name = ANY(%(companies)s) AND xmin = pg_current_xact_id()::xid;

-- name: make_incoming
-- Where the new rows of changed companies wait for the difference; gone with the transaction.
CREATE TEMPORARY TABLE incoming_rows (LIKE historical_stocks_data) ON COMMIT DROP;

-- name: copy_incoming
-- As insert_query.sql.
COPY incoming_rows FROM STDIN (FORMAT text, DELIMITER ',', NULL '', ENCODING 'UTF8');

-- name: copy_incoming_as_of
-- What the table held of these companies after a load.
INSERT INTO incoming_rows SELECT * FROM rows_as_of_load(%(wanted)s) WHERE company_name = ANY(%(companies)s);

-- name: remove_foreign_rows
-- Of these companies, rows that no load can have written: what is no day and no numbers, and a day's second row. They are
-- not journalled: stock_prices could not be read with the first, and the second say nothing that the first do not.
DELETE FROM historical_stocks_data t
WHERE company_name = ANY(%(companies)s) AND (
    coalesce(stock_date, '') !~ '^\d{4}-\d{2}-\d{2}$'
    OR EXISTS (
        SELECT FROM unnest(ARRAY[open_value, high_value, low_value, close_value, volume_traded, value_change,
                                 coalesce(daily_percent_change, '0')]) AS field
        WHERE coalesce(field, '') !~ '^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$'
    )
    OR EXISTS (
        SELECT FROM historical_stocks_data first
        WHERE first.company_name = t.company_name AND first.stock_date = t.stock_date AND first.ctid < t.ctid
    )
);

-- name: known_companies
-- Rows and last day that the table has of these companies, before the difference is applied.
SELECT company_name, count(*), max(stock_date) FROM historical_stocks_data
WHERE company_name = ANY(%(companies)s) GROUP BY company_name;

-- name: find_differences
-- Each row that is not the same now and incoming, once: by its place where it is there now. Rows that differ in nothing
-- but spelling ("23", "23.0") are distinguished by comparing numbers.
CREATE TEMPORARY TABLE differences ON COMMIT DROP AS
SELECT coalesce(o.company_name, i.company_name) AS company_name, coalesce(o.stock_date, i.stock_date) AS stock_date,
    CASE
        WHEN o.company_name IS NULL THEN 'added'
        WHEN i.company_name IS NULL THEN 'removed'
        WHEN o.open_value::numeric = i.open_value::numeric AND o.high_value::numeric = i.high_value::numeric
            AND o.low_value::numeric = i.low_value::numeric AND o.close_value::numeric = i.close_value::numeric
            AND o.volume_traded::numeric = i.volume_traded::numeric
            AND o.daily_percent_change::numeric IS NOT DISTINCT FROM i.daily_percent_change::numeric
            AND o.value_change::numeric = i.value_change::numeric THEN 'respelled'
        ELSE 'changed'
    END AS change,
    o.place, o.open_value, o.high_value, o.low_value, o.close_value, o.volume_traded, o.daily_percent_change,
    o.value_change, i.open_value AS new_open, i.high_value AS new_high, i.low_value AS new_low,
    i.close_value AS new_close, i.volume_traded AS new_volume, i.daily_percent_change AS new_percent,
    i.value_change AS new_change
FROM (SELECT ctid AS place, t.* FROM historical_stocks_data t WHERE company_name = ANY(%(companies)s)) o
FULL JOIN incoming_rows i ON o.company_name = i.company_name AND o.stock_date = i.stock_date
WHERE o.open_value IS DISTINCT FROM i.open_value OR o.high_value IS DISTINCT FROM i.high_value
   OR o.low_value IS DISTINCT FROM i.low_value OR o.close_value IS DISTINCT FROM i.close_value
   OR o.volume_traded IS DISTINCT FROM i.volume_traded OR o.value_change IS DISTINCT FROM i.value_change
   OR o.daily_percent_change IS DISTINCT FROM i.daily_percent_change OR o.company_name IS NULL OR i.company_name IS NULL;

-- name: sum_differences
-- By company and kind: how many rows, from which day to which; of those added, how many follow the last known day.
SELECT d.company_name, d.change, count(*), min(d.stock_date), max(d.stock_date),
       count(*) FILTER (WHERE d.change = 'added' AND d.stock_date > known.last_day)
FROM differences d
LEFT JOIN unnest(%(companies)s::text[], %(last_days)s::text[]) AS known (company_name, last_day) USING (company_name)
GROUP BY d.company_name, d.change;

-- name: incoming_companies
-- Rows and last day of each company that is to change.
SELECT company_name, count(*), max(stock_date) FROM incoming_rows GROUP BY company_name;

-- name: hold_back
-- Companies that keep their rows: forget that anything of them differs.
DELETE FROM differences WHERE company_name = ANY(%(companies)s);

-- name: factors
-- Of companies with changed rows, by company: are they one factor? The factor is a ratio of sums over the rows near the
-- median, because the ratio of two rounded prices is rough. A row fits when its prices do within what rounding explains:
-- half a unit of the last written digit of both, or half a unit of the fifth significant digit of both. The digits of a
-- row are those of its longest price, because "12.50" is written "12.5".
WITH prices AS (
    SELECT company_name, stock_date, open_value::float8 AS o, close_value::float8 AS c, volume_traded::float8 AS v,
        new_open::float8 AS new_o, new_close::float8 AS new_c, new_volume::float8 AS new_v,
        CASE WHEN close_value::float8 > 0 THEN new_close::float8 / close_value::float8 END AS ratio,
        CASE WHEN volume_traded::float8 > 0 THEN new_volume::float8 / volume_traded::float8 END AS volume_ratio,
        power(10, -greatest(
            length(substring(open_value from '\.(\d*)')), length(substring(high_value from '\.(\d*)')),
            length(substring(low_value from '\.(\d*)')), length(substring(close_value from '\.(\d*)')), 0)) AS unit,
        power(10, -greatest(
            length(substring(new_open from '\.(\d*)')), length(substring(new_high from '\.(\d*)')),
            length(substring(new_low from '\.(\d*)')), length(substring(new_close from '\.(\d*)')), 0)) AS new_unit
    FROM differences WHERE change = 'changed'
), medians AS (
    SELECT company_name, percentile_cont(0.5) WITHIN GROUP (ORDER BY ratio) AS ratio,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY volume_ratio) AS volume_ratio
    FROM prices GROUP BY company_name
), factor AS (
    SELECT company_name,
        sum(new_c) FILTER (WHERE abs(p.ratio / nullif(m.ratio, 0) - 1) < 0.01)
            / nullif(sum(c) FILTER (WHERE abs(p.ratio / nullif(m.ratio, 0) - 1) < 0.01), 0) AS price,
        sum(new_v) FILTER (WHERE abs(p.volume_ratio / nullif(m.volume_ratio, 0) - 1) < 0.01)
            / nullif(sum(v) FILTER (WHERE abs(p.volume_ratio / nullif(m.volume_ratio, 0) - 1) < 0.01), 0) AS volume
    FROM prices p JOIN medians m USING (company_name) GROUP BY company_name
), fitting AS (
    SELECT p.*, f.price, f.volume,
        abs(new_c - f.price * c) <= greatest(1e-4 * new_c, least(0.51 * (new_unit + f.price * unit), 0.01 * new_c))
        AND abs(new_o - f.price * o) <= greatest(1e-4 * new_o, least(0.51 * (new_unit + f.price * unit), 0.01 * new_o))
            AS fits,
        abs(new_v - f.volume * v) <= greatest(1, 0.001 * new_v) AS volume_fits,
        abs(new_v - v) <= greatest(1, 0.001 * v) AS same_volume
    FROM prices p JOIN factor f USING (company_name)
)
SELECT company_name, price, volume, count(*), count(*) FILTER (WHERE fits), max(stock_date) FILTER (WHERE fits),
       count(*) FILTER (WHERE volume_fits), count(*) FILTER (WHERE same_volume)
FROM fitting WHERE price IS NOT NULL GROUP BY company_name, price, volume;

-- name: count_days_until
-- How many rows these companies have until a day, each its own.
SELECT t.company_name, count(*) FROM historical_stocks_data t
JOIN unnest(%(companies)s::text[], %(days)s::text[]) AS until (company_name, day)
    ON t.company_name = until.company_name AND t.stock_date <= until.day
GROUP BY t.company_name;

-- name: examples
-- The first changed rows of some companies, with the values before and after, for a person to see.
SELECT company_name, stock_date, before, after FROM (
    SELECT company_name, stock_date, ARRAY[open_value, high_value, low_value, close_value, volume_traded] AS before,
           ARRAY[new_open, new_high, new_low, new_close, new_volume] AS after,
           row_number() OVER (PARTITION BY company_name ORDER BY stock_date) AS position
    FROM differences WHERE company_name = ANY(%(companies)s) AND change = 'changed'
) d WHERE position <= 3 ORDER BY company_name, stock_date;

-- name: journal_differences
-- The old values, before they go. Days behind a company's last one are a range, like those of companies that only grew.
INSERT INTO price_changes (load, rows, change, company_name, stock_date, last_date, open_value, high_value, low_value,
    close_value, volume_traded, daily_percent_change, value_change)
WITH known AS (
    SELECT * FROM unnest(%(companies)s::text[], %(last_days)s::text[]) AS known (company_name, last_day)
)
SELECT %(load)s::bigint, NULL, change, company_name, stock_date, NULL, open_value, high_value, low_value, close_value,
       volume_traded, daily_percent_change, value_change
FROM differences LEFT JOIN known USING (company_name)
WHERE change IN ('changed', 'removed') OR (change = 'added' AND stock_date <= last_day)
UNION ALL
SELECT %(load)s, count(*), CASE WHEN last_day IS NULL THEN 'new' ELSE 'grew' END, company_name,
       CASE WHEN last_day IS NOT NULL THEN min(stock_date) END, CASE WHEN last_day IS NOT NULL THEN max(stock_date) END,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM differences LEFT JOIN known USING (company_name)
WHERE change = 'added' AND (stock_date <= last_day) IS NOT TRUE
GROUP BY company_name, last_day;

-- name: delete_differing
-- Old rows that differ, by their place; their new ones follow in the same transaction.
DELETE FROM historical_stocks_data t USING differences d WHERE t.ctid = d.place;

-- name: insert_differing
-- New rows that differ.
INSERT INTO historical_stocks_data
SELECT stock_date, new_open, new_high, new_low, new_close, new_volume, new_percent, new_change, company_name
FROM differences WHERE change <> 'removed';

-- name: record_restatements
-- What was done to the history of companies, by name.
INSERT INTO restatements (load, company_name, kind, rows, first_day, last_day, factor, volume_factor, whole, examples)
SELECT %(load)s, company_name, kind, rows, first_day, last_day, factor, volume_factor, whole, coalesce(examples, '[]')
FROM jsonb_to_recordset(%(restatements)s::jsonb) AS r (company_name text, kind text, rows bigint, first_day text,
    last_day text, factor float8, volume_factor float8, whole boolean, examples jsonb);

-- name: record_run
-- One attempted run.
INSERT INTO pipeline_runs (attempt_id, run_id, state, started_at, elapsed_seconds, receipt, sha256)
VALUES (%(attempt_id)s, %(run_id)s, %(state)s, %(started_at)s, %(elapsed_seconds)s, %(receipt)s, %(sha256)s);

-- name: lock_runs
-- One record at a time, because each holds the hash of the one before.
SELECT pg_advisory_xact_lock(hashtext('pipeline_runs'));

-- name: last_recorded
-- The receipt that was recorded last.
SELECT receipt FROM pipeline_runs ORDER BY number DESC LIMIT 1;

-- name: find_attempt
-- The receipt of an attempt whose COMMIT was not answered: if it is there, the load took effect.
SELECT receipt::text FROM pipeline_runs WHERE attempt_id = %(attempt_id)s;

-- name: first_success
-- What a run's first committed attempt moved: later attempts of the same run find its rows in the table.
SELECT (receipt->'rows'->>'inserted')::bigint, (receipt->'rows'->>'deleted')::bigint
FROM pipeline_runs WHERE run_id = %(run_id)s AND state = 'success' ORDER BY elapsed_seconds LIMIT 1;

-- name: last_success
-- The run that a new load is compared with, and its accepted rows.
SELECT run_id, (receipt->'rows'->>'accepted')::bigint
FROM pipeline_runs WHERE state = 'success' ORDER BY started_at DESC LIMIT 1;

-- name: last_runs
-- The newest receipts, newest first.
SELECT receipt FROM pipeline_runs ORDER BY started_at DESC LIMIT %(limit)s;

-- name: row_totals
-- Rows in the table, and rows that the ledger knows of.
SELECT (SELECT count(*) FROM historical_stocks_data), (SELECT coalesce(sum(rows), 0)::bigint FROM loaded_companies);

-- name: read_prices
-- Prices of some companies over a span of days, as CSV and in any order; the braces are filled with quoted literals,
-- null = all, and with the view, or what it was at some time. Days are ISO dates, so they compare as text.
COPY (
    SELECT * FROM {relation}
    WHERE ({companies}::text[] IS NULL OR company_name = ANY ({companies}::text[]))
      AND ({since}::text IS NULL OR stock_date >= {since}::text COLLATE "C")
      AND ({until}::text IS NULL OR stock_date <= {until}::text COLLATE "C")
) TO STDOUT (FORMAT csv, HEADER);

-- name: loads_of_run
-- The loads that a run committed, in their order; a task that Airflow repeats may have committed several.
SELECT load, loaded_at, undone_by FROM loads WHERE run_id = %(run_id)s ORDER BY load;

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

-- name: undone_runs
-- The runs that are undone with a load: it and all later ones.
SELECT DISTINCT run_id, min(load) FROM loads WHERE load >= %(load)s AND kind = 'load' AND undone_by IS NULL
GROUP BY run_id ORDER BY 2;

-- name: restore_ledger
-- The ledger's entries as they were before a load, of companies whose rows were taken back.
WITH before AS (
    SELECT DISTINCT ON (company_name) * FROM ledger_changes
    WHERE load >= %(load)s AND company_name = ANY(%(companies)s) ORDER BY company_name, load
), gone AS (
    DELETE FROM loaded_companies USING before
    WHERE before.company_name = loaded_companies.company_name AND before.sha256 IS NULL
)
UPDATE loaded_companies l
SET sha256 = b.sha256, length = b.length, rows = b.rows, run_id = b.run_id, loaded_at = b.loaded_at, last_day = b.last_day,
    sha256_by_day = b.sha256_by_day
FROM before b WHERE b.company_name = l.company_name AND b.sha256 IS NOT NULL;

-- name: correct_ledger_entry
-- What the table really holds of a company, where that is spelled otherwise than its old slice was.
UPDATE loaded_companies SET sha256 = %(sha256)s, length = %(length)s, rows = %(rows)s, sha256_by_day = NULL
WHERE company_name = %(company)s;

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
-- filled with a quoted literal and a name.
COPY (
    SELECT stock_date, open_value, high_value, low_value, close_value, volume_traded,
           daily_percent_change, value_change, company_name
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
