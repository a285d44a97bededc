-- Queries that replace companies whose whole history was multiplied by one factor, read as queries.sql is.

-- name: rows_of_days
-- Prices and volumes that the table has of some days of companies; the day as the table's index has it.
SELECT t.company_name, t.stock_date, t.open_value, t.high_value, t.low_value, t.close_value, t.volume_traded
FROM unnest(%(companies)s::text[], %(days)s::text[]) AS wanted (company_name, day)
JOIN historical_stocks_data t ON t.company_name = wanted.company_name AND t.stock_date = wanted.day
    AND make_date(substr(t.stock_date, 1, 4)::int, substr(t.stock_date, 6, 2)::int, substr(t.stock_date, 9, 2)::int)
        = wanted.day::date
WHERE num_nulls(t.open_value, t.high_value, t.low_value, t.close_value, t.volume_traded) = 0;

-- name: compare_whole
-- Companies whose new rows this transaction has copied behind their old ones, by company: old rows, new rows, days that
-- have both and surely changed, last old day, first and last day that only the new rows have; then how well
-- the factors fit, as the query `factors` says it, with a tenth more room because they are guesses. A row
-- whose numbers are not plausible (`differences` in journal.sql) fits no factor. Last, the first and the last old day that
-- it fits, and those that it does not fit.
SELECT company_name, count(old_day), count(new_day), count(*) FILTER (WHERE new_c <> c OR new_o <> o),
       max(old_day), min(new_day) FILTER (WHERE old_day IS NULL), max(new_day) FILTER (WHERE old_day IS NULL),
       sum(new_c) FILTER (WHERE fits) / nullif(sum(c) FILTER (WHERE fits), 0), sum(new_v) / nullif(sum(v), 0),
       count(*) FILTER (WHERE fits), count(*) FILTER (WHERE abs(new_v - volume * v) <= greatest(1, 0.001 * new_v)),
       count(*) FILTER (WHERE same_volume OR abs(new_v - v) <= greatest(1, 0.001 * v)),
       min(old_day) FILTER (WHERE fits), max(old_day) FILTER (WHERE fits),
       min(old_day) FILTER (WHERE fits IS NOT TRUE), max(old_day) FILTER (WHERE fits IS NOT TRUE)
FROM (
    SELECT company_name, volume, old_day, new_day, c, o, new_c, new_o, v, new_v, same_volume, CASE
    WHEN greatest(o, c, new_o, new_c) > 1e50
        OR least(nullif(o, 0), nullif(c, 0), nullif(new_o, 0), nullif(new_c, 0)) < 1e-50 THEN false
    ELSE (
        abs(new_c - price * c) <= 1.1e-4 * new_c AND abs(new_o - price * o) <= 1.1e-4 * new_o
    ) OR greatest(abs(new_c - price * c), abs(new_o - price * o)) <= least(0.01 * new_c, 0.55 * (
        power(10, -greatest(
            length(split_part(new_open, '.', 2)), length(split_part(new_high, '.', 2)),
            length(split_part(new_low, '.', 2)), length(split_part(new_close, '.', 2))))
        + price * power(10, -greatest(
            length(split_part(open_value, '.', 2)), length(split_part(high_value, '.', 2)),
            length(split_part(low_value, '.', 2)), length(split_part(close_value, '.', 2))))
    )) END AS fits
    FROM (
        SELECT f.*, o.stock_date COLLATE "C" AS old_day, n.stock_date COLLATE "C" AS new_day,
            o.open_value::float8 AS o, o.close_value::float8 AS c, n.open_value::float8 AS new_o,
            n.close_value::float8 AS new_c, o.volume_traded = n.volume_traded AS same_volume,
            CASE WHEN o.volume_traded <> n.volume_traded OR o.volume_traded = '0' THEN o.volume_traded::float8 END AS v,
            CASE WHEN o.volume_traded <> n.volume_traded OR o.volume_traded = '0' THEN n.volume_traded::float8 END AS new_v,
            o.open_value, o.high_value, o.low_value, o.close_value, n.open_value AS new_open, n.high_value AS new_high,
            n.low_value AS new_low, n.close_value AS new_close
        FROM (
            SELECT * FROM historical_stocks_data
            WHERE company_name = ANY(%(companies)s) AND xmin <> pg_current_xact_id()::xid
        ) o
        FULL JOIN (
            SELECT * FROM historical_stocks_data
            WHERE company_name = ANY(%(companies)s) AND xmin = pg_current_xact_id()::xid
        ) n ON o.company_name = n.company_name AND o.stock_date = n.stock_date
        JOIN unnest(%(companies)s::text[], %(prices)s::float8[], %(volumes)s::float8[]) AS f (company_name, price, volume)
            ON f.company_name = coalesce(o.company_name, n.company_name)
        OFFSET 0 -- each number is read once
    ) numbers
    OFFSET 0
) judged
GROUP BY company_name;

-- name: take_back
-- New rows of companies that are to be compared row by row all the same.
DELETE FROM historical_stocks_data WHERE company_name = ANY(%(companies)s) AND xmin = pg_current_xact_id()::xid;

-- name: journal_whole
-- Old rows of companies of which every one changed: out of the table, into the journal.
WITH gone AS (
    DELETE FROM historical_stocks_data
    WHERE company_name = ANY(%(companies)s) AND xmin <> pg_current_xact_id()::xid
    RETURNING *
)
INSERT INTO price_changes (load, change, company_name, stock_date, open_value, high_value, low_value, close_value,
    volume_traded, daily_percent_change, value_change)
SELECT %(load)s, 'changed', company_name, stock_date, open_value, high_value, low_value, close_value, volume_traded,
       daily_percent_change, value_change
FROM gone;
