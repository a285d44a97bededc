-- Queries of the load that compare, replace, count and journal rows, read as queries.sql is.
-- Long because each step of a replacement is here, in the order of the load.

-- name: next_load
-- The number of the load that this transaction makes; the load's lock keeps it for us.
SELECT coalesce(max(load), 0) + 1 FROM loads;

-- name: record_load
-- Last before the record and the COMMIT, so that the time is when readers see the rows; no two loads have the same.
-- What a load into an emptied table changed is not known: the earlier loads' rows went by somebody else's hand.
INSERT INTO loads (load, run_id, kind, loaded_at, journal_kept)
SELECT %(load)s, %(run_id)s, %(kind)s,
       greatest(clock_timestamp(), (SELECT max(loaded_at) + interval '1 microsecond' FROM loads)),
       NOT (%(new_start)s AND EXISTS (SELECT FROM loads));

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
WITH ledger AS (DELETE FROM ledger_changes WHERE load <= %(load)s),
     flags AS (DELETE FROM flag_changes WHERE until_load <= %(load)s)
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

-- name: other_companies
-- Companies that were ever loaded, but for these.
SELECT company_name FROM loaded_companies WHERE company_name <> ALL(%(companies)s::text[]);

-- name: count_tails
-- Of the days that companies have grown by: rows of this transaction, and all rows. More of these: the file is not in
-- the order of its days, and its new days do not follow the last one.
SELECT tail.company_name, count(t.*) FILTER (WHERE t.xmin = pg_current_xact_id()::xid), count(t.*)
FROM unnest(%(companies)s::text[], %(first_days)s::text[], %(last_days)s::text[])
    AS tail (company_name, first_day, last_day)
LEFT JOIN historical_stocks_data t
    ON t.company_name = tail.company_name AND t.stock_date BETWEEN tail.first_day AND tail.last_day
    AND make_date(substr(t.stock_date, 1, 4)::int, substr(t.stock_date, 6, 2)::int, substr(t.stock_date, 9, 2)::int)
        BETWEEN tail.first_day::date AND tail.last_day::date -- for the table's index
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

-- name: make_differences
-- Each row that is not the same in the table and incoming: the company, the day, what it is (added, removed, changed,
-- respelled), its place in the table (or in the partition `part`), the old values and the new ones. Of a changed row: is
-- each of its numbers 0 or one that a price or a volume can be? From others, such as a vendor's 1.8e308 for "missing", no
-- factor is made: float8 ends a query where a product is too large or too small for it.
CREATE TEMPORARY TABLE differences (
    company_name text, stock_date text, change text, part oid, place tid, open_value text, high_value text,
    low_value text, close_value text, volume_traded text, daily_percent_change text, value_change text,
    new_open text, new_high text, new_low text, new_close text, new_volume text, new_percent text, new_change text,
    is_plausible boolean GENERATED ALWAYS AS (
        CASE WHEN change = 'changed' THEN
            greatest(abs(open_value::numeric), abs(close_value::numeric), abs(volume_traded::numeric),
                     abs(new_open::numeric), abs(new_close::numeric), abs(new_volume::numeric)) <= 1e50
            AND coalesce(least(
                nullif(abs(open_value::numeric), 0), nullif(abs(close_value::numeric), 0),
                nullif(abs(volume_traded::numeric), 0), nullif(abs(new_open::numeric), 0),
                nullif(abs(new_close::numeric), 0), nullif(abs(new_volume::numeric), 0)) >= 1e-50, true)
        END
    ) STORED
) ON COMMIT DROP;

-- name: forget_differences
-- One group of companies is done.
TRUNCATE incoming_rows, differences;

-- name: enough_memory
-- For sorts and hashes of a group of companies; gone with the transaction.
SELECT set_config('work_mem', '64MB', true);

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
    CASE
        WHEN coalesce(stock_date, '') !~ '^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$' OR EXISTS (
            SELECT FROM unnest(ARRAY[open_value, high_value, low_value, close_value, volume_traded, value_change,
                                     coalesce(daily_percent_change, '0')]) AS field
            WHERE coalesce(field, '') !~ '^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?$'
        ) THEN true
        -- What can be cast now: volumes are a bigint, and a day that its month has not is one of the next month.
        ELSE round(volume_traded::numeric) NOT BETWEEN 0 AND 9223372036854775807
            OR right(stock_date, 2)::int > 28
            AND to_char((left(stock_date, 8) || '01')::date + right(stock_date, 2)::int - 1, 'YYYY-MM-DD') <> stock_date
    END
    OR (tableoid, ctid) IN (
        SELECT part, ctid FROM (
            SELECT tableoid AS part, ctid,
                   row_number() OVER (PARTITION BY company_name, stock_date ORDER BY tableoid, ctid) AS copy
            FROM historical_stocks_data WHERE company_name = ANY(%(companies)s)
        ) rows_of_a_day WHERE copy > 1
    )
);

-- name: remove_rows_behind
-- Of companies that hold what was loaded, rows behind the last loaded day, which no load has written. They are not
-- journalled: a day that the new file has too is one by which the company grows.
DELETE FROM historical_stocks_data t
USING unnest(%(companies)s::text[], %(last_days)s::text[]) AS loaded (company_name, last_day)
WHERE t.company_name = loaded.company_name AND t.stock_date > loaded.last_day AND t.company_name = ANY(%(companies)s);

-- name: known_companies
-- Rows and last day that the table has of these companies, before the difference is applied.
SELECT company_name, count(*), max(stock_date) FROM historical_stocks_data
WHERE company_name = ANY(%(companies)s) GROUP BY company_name;

-- name: find_differences
-- Each row that is not the same now and incoming, once: by its place where it is there now. Rows that differ in nothing
-- but spelling ("23", "23.0") are distinguished by comparing numbers.
INSERT INTO differences
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
    o.part, o.place, o.open_value, o.high_value, o.low_value, o.close_value, o.volume_traded,
    o.daily_percent_change, o.value_change, i.open_value AS new_open, i.high_value AS new_high, i.low_value AS new_low,
    i.close_value AS new_close, i.volume_traded AS new_volume, i.daily_percent_change AS new_percent,
    i.value_change AS new_change
FROM (
    SELECT tableoid AS part, ctid AS place, t.* FROM historical_stocks_data t WHERE company_name = ANY(%(companies)s)
) o
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
-- row are those of its longest price, because "12.50" is written "12.5". A row that is not plausible counts, and
-- fits no factor.
WITH numbers AS (
    SELECT company_name, stock_date, CASE WHEN is_plausible THEN open_value::float8 END AS o,
        CASE WHEN is_plausible THEN close_value::float8 END AS c,
        CASE WHEN is_plausible THEN volume_traded::float8 END AS v,
        CASE WHEN is_plausible THEN new_open::float8 END AS new_o,
        CASE WHEN is_plausible THEN new_close::float8 END AS new_c,
        CASE WHEN is_plausible THEN new_volume::float8 END AS new_v,
        open_value, high_value, low_value, close_value, new_open, new_high, new_low, new_close
    FROM differences WHERE change = 'changed'
), prices AS MATERIALIZED (
    SELECT *, new_c / nullif(c, 0) AS ratio, new_v / nullif(v, 0) AS volume_ratio FROM numbers
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
), errors AS (
    SELECT p.*, f.price, f.volume, abs(new_c - f.price * c) AS error_c, abs(new_o - f.price * o) AS error_o
    FROM prices p JOIN factor f USING (company_name)
), fitting AS (
    SELECT company_name, stock_date, price, volume,
        (error_c <= 1e-4 * new_c AND error_o <= 1e-4 * new_o) OR greatest(error_c, error_o) <= least(0.01 * new_c, 0.51 * (
            power(10, -greatest(
                length(split_part(new_open, '.', 2)), length(split_part(new_high, '.', 2)),
                length(split_part(new_low, '.', 2)), length(split_part(new_close, '.', 2))))
            + price * power(10, -greatest(
                length(split_part(open_value, '.', 2)), length(split_part(high_value, '.', 2)),
                length(split_part(low_value, '.', 2)), length(split_part(close_value, '.', 2))))
        )) AS fits,
        abs(new_v - volume * v) <= greatest(1, 0.001 * new_v) AS volume_fits,
        abs(new_v - v) <= greatest(1, 0.001 * v) AS same_volume
    FROM errors
)
SELECT company_name, price, volume, count(*), count(*) FILTER (WHERE fits), count(*) FILTER (WHERE volume_fits),
       count(*) FILTER (WHERE same_volume), min(stock_date) FILTER (WHERE fits), max(stock_date) FILTER (WHERE fits),
       min(stock_date) FILTER (WHERE fits IS NOT TRUE), max(stock_date) FILTER (WHERE fits IS NOT TRUE)
FROM fitting WHERE price IS NOT NULL GROUP BY company_name, price, volume;

-- name: changed_rows
-- Of some companies every changed row, with prices and volumes before and after, by company and day; and is it plausible?
SELECT company_name, stock_date, open_value, high_value, low_value, close_value, volume_traded,
       new_open, new_high, new_low, new_close, new_volume, is_plausible
FROM differences WHERE company_name = ANY(%(companies)s) AND change = 'changed'
  AND num_nulls(open_value, high_value, low_value, close_value, volume_traded) = 0
ORDER BY company_name, stock_date;

-- name: count_days_until
-- How many rows these companies have until a day, each its own.
SELECT t.company_name, count(*) FROM historical_stocks_data t
JOIN unnest(%(companies)s::text[], %(days)s::text[]) AS until (company_name, day)
    ON t.company_name = until.company_name AND t.stock_date <= until.day
WHERE t.company_name = ANY(%(companies)s)
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
-- The old values, before they go. Days behind a company's last one are a range, like those of companies that only grew;
-- of companies that hold again what was loaded, they are all that there is to say.
INSERT INTO price_changes (load, rows, change, company_name, stock_date, last_date, open_value, high_value, low_value,
    close_value, volume_traded, daily_percent_change, value_change)
WITH known AS (
    SELECT * FROM unnest(%(companies)s::text[], %(last_days)s::text[]) AS known (company_name, last_day)
)
SELECT %(load)s::bigint, NULL, change, company_name, stock_date, NULL, open_value, high_value, low_value, close_value,
       volume_traded, daily_percent_change, value_change
FROM differences LEFT JOIN known USING (company_name)
WHERE company_name <> ALL(%(as_loaded)s::text[])
  AND (change IN ('changed', 'removed') OR (change = 'added' AND stock_date <= last_day))
UNION ALL
SELECT %(load)s, count(*), CASE WHEN last_day IS NULL THEN 'new' ELSE 'grew' END, company_name,
       CASE WHEN last_day IS NOT NULL THEN min(stock_date) END, CASE WHEN last_day IS NOT NULL THEN max(stock_date) END,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM differences LEFT JOIN known USING (company_name)
WHERE change = 'added' AND (stock_date <= last_day) IS NOT TRUE
GROUP BY company_name, last_day;

-- name: delete_differing
-- Old rows that differ, by their place; their new ones follow in the same transaction. Each partition has rows at the same
-- places; a table without any is not looked at twice.
DELETE FROM historical_stocks_data
WHERE ctid = ANY(ARRAY(SELECT place FROM differences WHERE place IS NOT NULL)) AND (
    NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'historical_stocks_data'::regclass)
    OR (tableoid, ctid) IN (SELECT part, place FROM differences WHERE place IS NOT NULL)
);

-- name: insert_differing
-- New rows that differ.
INSERT INTO historical_stocks_data
SELECT stock_date, new_open, new_high, new_low, new_close, new_volume, new_percent, new_change, company_name
FROM differences WHERE change <> 'removed';

-- name: record_restatements
-- What was done to the history of companies, by name.
INSERT INTO restatements
    (load, company_name, kind, rows, first_day, last_day, factor, volume_factor, whole, examples, spans)
SELECT %(load)s, company_name, kind, rows, first_day, last_day, factor, volume_factor, whole, coalesce(examples, '[]'),
       coalesce(spans, '[]')
FROM jsonb_to_recordset(%(restatements)s::jsonb) AS r (company_name text, kind text, rows bigint, first_day text,
    last_day text, factor float8, volume_factor float8, whole boolean, examples jsonb, spans jsonb);

-- name: record_mixed
-- Companies of which the load found, and journals, rows that others had written.
INSERT INTO restatements (load, company_name, kind, rows, whole, examples)
SELECT %(load)s, company_name, 'mixed', 0, false, '[]' FROM unnest(%(companies)s::text[]) AS company_name;
