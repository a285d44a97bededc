-- The conversation with the database, but for the schemas: one named query after another; those of
-- the journal are in journal.sql and history.sql.
-- Each begins with its name; etl/table/database.py reads the file once.

-- name: session
-- How long a statement waits for somebody else's lock, that it is a load that writes, and where all names are looked for
-- first: in the schema of the table that the search path finds. Then what a database or a role may have set otherwise and
-- would change what we write or read; a COMMIT that is answered is on the disk. Other settings of the URL stay.
-- standard_conforming_strings stays too, because psycopg2 quotes as it was at first: so no literal of ours has a backslash.
-- Local to the transaction: behind a pooler the session is somebody else's next. What would fit better than PostgreSQL's own
-- function, if somebody made it, is called by its schema here and in the next query: init-db looks for such functions then.
SELECT set_config('lock_timeout', %(milliseconds)s, true), set_config('moving_big_data.loading', 'on', true),
       set_config('search_path', pg_catalog.concat_ws(', ', (
           SELECT pg_catalog.quote_ident(nspname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
           WHERE pg_class.oid = to_regclass('historical_stocks_data')
       ), nullif(current_setting('search_path'), '')), true),
       set_config('DateStyle', 'ISO', true), set_config('TimeZone', 'UTC', true), set_config('array_nulls', 'on', true),
       set_config('extra_float_digits', '1', true), set_config('transform_null_equals', 'off', true),
       set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'local'), true);

-- name: lock
-- One load at a time; the lock goes with the transaction, however that ends. Asked again and again rather than waited
-- for, because a process that waits inside the server does not hear a signal.
SELECT pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('historical_stocks_data'));

-- name: lock_holder
-- Who holds the load's lock, for the message of the one that waited in vain. Anybody may take it, outside a transaction
-- too; of sessions of other users, not everybody sees the time.
SELECT a.pid, a.application_name, a.usename, coalesce(a.xact_start, a.state_change, a.backend_start)
FROM pg_locks l
JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((l.classid::bigint << 32) | l.objid::bigint) = (hashtext('historical_stocks_data')::bigint);

-- name: columns_of_table
-- The table as it is, to be compared with the contract before anything is loaded.
SELECT attname || ' ' || format_type(atttypid, atttypmod)
FROM pg_attribute
WHERE attrelid = to_regclass('historical_stocks_data') AND attnum > 0 AND NOT attisdropped
ORDER BY attnum;

-- name: place_of_table
-- The table's schema, if the search path finds one, and what it is; the database; other schemas with one of that name.
SELECT n.nspname, c.relkind::text, current_database(), ARRAY(
    SELECT o.nspname FROM pg_class r JOIN pg_namespace o ON o.oid = r.relnamespace
    WHERE r.relname = 'historical_stocks_data' AND r.relkind IN ('r', 'p', 'f', 'v', 'm') AND r.oid IS DISTINCT FROM c.oid
    ORDER BY 1
)
FROM (SELECT to_regclass('historical_stocks_data') AS oid) found
LEFT JOIN pg_class c USING (oid) LEFT JOIN pg_namespace n ON n.oid = c.relnamespace;

-- name: owner_of_table
-- Whose the table is, who asks, and whether that is the owner or a member of the owner's role.
SELECT pg_get_userbyid(relowner), current_user, pg_has_role(relowner, 'USAGE')
FROM pg_class WHERE oid = 'historical_stocks_data'::regclass;

-- name: forget_found_schema
-- As this user would see it: what is made without a schema's name goes where they are used to.
SET LOCAL search_path TO DEFAULT;

-- name: schema_for_new
-- Where a new table would go, and the search path that says so.
SELECT current_schema(), current_setting('search_path');

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

-- name: copy_rows
-- Slices of the combined file, streamed. Text format is safe for them: they hold no quote, backslash or tab
-- (etl/files/row_format.py), and an empty field is NULL.
COPY historical_stocks_data (
    stock_date, open_value, high_value, low_value, close_value, volume_traded,
    daily_percent_change, value_change, company_name
) FROM STDIN (FORMAT text, DELIMITER ',', NULL '', ENCODING 'UTF8');

-- name: table_index
-- Does the traders' index exist; may this user build it, as the table's owner?
SELECT EXISTS (
           SELECT FROM pg_index JOIN pg_class i ON i.oid = indexrelid
           WHERE indrelid = t.oid AND i.relname = 'historical_stocks_data_company_day'
       ),
       pg_has_role(relowner, 'USAGE') AND has_schema_privilege(relnamespace, 'CREATE')
FROM pg_class t WHERE oid = 'historical_stocks_data'::regclass;

-- name: build_table_index
-- One company's history in milliseconds; from PostgreSQL 18 on also one day across companies, by skipping from company to
-- company. Built by the first load behind its COPY, which costs half of what the COPY would pay to maintain it; building
-- it blocks no reader. It is also how a load finds the rows of a changed company. The day is the expression of the view
-- stock_prices, smaller and faster than its text. Where somebody wrote a day that is none, the text has to do.
DO $$
BEGIN
    CREATE INDEX historical_stocks_data_company_day ON historical_stocks_data (
        company_name,
        make_date(substr(stock_date, 1, 4)::int, substr(stock_date, 6, 2)::int, substr(stock_date, 9, 2)::int)
    );
EXCEPTION WHEN data_exception THEN
    CREATE INDEX IF NOT EXISTS historical_stocks_data_company_date ON historical_stocks_data (company_name, stock_date);
END
$$;

-- name: build_day_index
-- One day across companies, for who asks for it often: the first index finds it too, from PostgreSQL 18 on, but looks once for
-- each company. Every load maintains it, so it is built only when init-db is asked to.
CREATE INDEX IF NOT EXISTS historical_stocks_data_day ON historical_stocks_data (
    make_date(substr(stock_date, 1, 4)::int, substr(stock_date, 6, 2)::int, substr(stock_date, 9, 2)::int)
);

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
FROM pipeline_runs WHERE run_id = %(run_id)s AND state = 'success' ORDER BY number LIMIT 1;

-- name: last_success
-- The load that a new one is compared with, its accepted rows, and the files that it quarantined.
SELECT run_id, (receipt->'rows'->>'accepted')::bigint, ARRAY(
    SELECT one->>'file' FROM jsonb_array_elements(receipt->'quarantined') AS one
)
FROM pipeline_runs WHERE state = 'success' AND receipt->>'undone' IS NULL ORDER BY number DESC LIMIT 1;

-- name: last_runs
-- The newest receipts, newest first: in the order in which they were recorded, as a clock may have been wrong.
SELECT receipt FROM pipeline_runs ORDER BY number DESC LIMIT %(limit)s;

-- name: row_totals
-- Rows in the table, and rows that the ledger knows of.
SELECT (SELECT count(*) FROM historical_stocks_data), (SELECT coalesce(sum(rows), 0)::bigint FROM loaded_companies);

-- name: read_prices
-- Prices of some companies over a span of days, as CSV and in any order; the braces are filled with quoted literals,
-- null = all, with columns, and with the view, or what it was at some time. Days are ISO dates, so they compare as text.
COPY (
    SELECT {columns} FROM {relation}
    WHERE ({companies}::text[] IS NULL OR company_name = ANY ({companies}::text[]))
      AND ({since}::text IS NULL OR stock_date >= {since}::text COLLATE "C")
      AND ({until}::text IS NULL OR stock_date <= {until}::text COLLATE "C")
) TO STDOUT (FORMAT csv, HEADER);

-- name: company_names
-- Every company that was ever loaded. Readers may ask for the names, and for nothing else of the ledger.
SELECT company_name FROM loaded_companies ORDER BY company_name;

-- name: companies_with_rows
-- Which of these have rows that no load wrote.
SELECT company_name FROM unnest(%(companies)s::text[]) AS wanted (company_name)
WHERE EXISTS (SELECT FROM stock_prices_as_written p WHERE p.company_name = wanted.company_name);

-- name: companies
-- How far the prices of each company go, and whether they are fresh.
SELECT * FROM stock_data_status ORDER BY company_name;
