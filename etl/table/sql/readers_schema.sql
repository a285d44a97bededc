-- What people who read ask for, behind schema.sql and journal_schema.sql; safe to run again. All of it is views: no load
-- pays for it. The index by company and day makes them quick; where a load built none, they read the table for each company.

-- What "fresh" means; each number has its reason in the comment below.
CREATE OR REPLACE VIEW stock_freshness_rules AS
SELECT interval '4 days' AS late_after, 0.05::float8 AS newest_day_share, 20 AS usual_rows, 2 AS usual_times,
       7 AS new_for_days, 0.005::float8 AS stale_share;

-- stock_prices with what its percent change is often taken for. One look into the index for each row that is read.
CREATE OR REPLACE VIEW stock_returns AS
SELECT p.stock_date, p.open_value, p.high_value, p.low_value, p.close_value, p.volume_traded, p.daily_percent_change,
       p.value_change, p.company_name, before.close_value AS previous_close_value,
       round((p.close_value / nullif(before.close_value, 0) - 1) * 100, 6) AS close_percent_change
FROM stock_prices p
LEFT JOIN LATERAL (
    SELECT q.close_value FROM stock_prices q
    WHERE q.company_name = p.company_name AND q.stock_date < p.stock_date
    ORDER BY q.stock_date DESC LIMIT 1
) before ON true;

-- One look into the index for each company, where DISTINCT ON would read the whole table.
CREATE OR REPLACE VIEW stock_latest_prices AS
SELECT p.stock_date, p.open_value, p.high_value, p.low_value, p.close_value, p.volume_traded, p.daily_percent_change,
       p.value_change, p.company_name
FROM loaded_companies l
CROSS JOIN LATERAL (
    SELECT * FROM stock_prices q WHERE q.company_name = l.company_name ORDER BY q.stock_date DESC LIMIT 1
) p;

-- The batches that count are the loads that no undo took back; of each, the receipt says which companies it left out.
-- A company waits since the first of the last batches in a row that left it out.
CREATE OR REPLACE VIEW stock_data_status AS
WITH batches AS (
    SELECT r.receipt, r.started_at, row_number() OVER (ORDER BY l.load DESC) AS age
    FROM loads l
    JOIN (
        SELECT DISTINCT ON (run_id) run_id, started_at, receipt FROM pipeline_runs WHERE state = 'success'
        ORDER BY run_id, number DESC
    ) r USING (run_id)
    WHERE l.kind <> 'undo' AND l.undone_by IS NULL
), left_out AS (
    SELECT o.company_name, o.state, o.reason, b.started_at, b.age,
           row_number() OVER (PARTITION BY o.company_name ORDER BY b.age) AS in_a_row
    FROM batches b
    CROSS JOIN LATERAL (
        SELECT q.file AS company_name, 'quarantined' AS state, q.reason
        FROM jsonb_to_recordset(b.receipt -> 'quarantined') AS q (file text, reason text)
        UNION ALL
        SELECT h.company_name, 'held back', format('the new file has %s rows, up to %s', h.rows, h.last_day)
        FROM jsonb_to_recordset(b.receipt -> 'held') AS h (company_name text, rows bigint, last_day text)
    ) o
), waiting AS (
    SELECT company_name, max(state) FILTER (WHERE age = 1) AS state, max(reason) FILTER (WHERE age = 1) AS reason,
           min(started_at) AS since
    FROM left_out WHERE age = in_a_row GROUP BY company_name
), known AS MATERIALIZED (
    SELECT l.company_name, l.rows, l.loaded_at, l.run_id,
           (SELECT min(p.stock_date) FROM stock_prices p WHERE p.company_name = l.company_name) AS first_day,
           (SELECT max(p.stock_date) FROM stock_prices p WHERE p.company_name = l.company_name) AS last_day
    FROM loaded_companies l
), newest AS MATERIALIZED (
    SELECT percentile_disc(r.newest_day_share) WITHIN GROUP (ORDER BY k.last_day DESC) AS day
    FROM known k CROSS JOIN stock_freshness_rules r GROUP BY r.newest_day_share
), silent AS MATERIALIZED ( -- counted in weekdays: a holiday of the exchange is in the usual gaps of all companies
    SELECT k.company_name, newest.day - k.last_day AS days_behind,
           (SELECT count(*) FROM generate_series((k.last_day + 1)::timestamp, newest.day, interval '1 day') AS d
            WHERE extract(isodow FROM d) < 6) > r.usual_times * usual.missed AS is_unusual
    FROM newest JOIN known k ON k.last_day < newest.day
    CROSS JOIN stock_freshness_rules r
    CROSS JOIN LATERAL (
        SELECT greatest(max(gap.weekdays) - 1, 0) AS missed
        FROM (
            SELECT stock_date, lag(stock_date) OVER (ORDER BY stock_date) AS before
            FROM (
                SELECT p.stock_date FROM stock_prices p WHERE p.company_name = k.company_name
                ORDER BY p.stock_date DESC LIMIT r.usual_rows
            ) last_rows
        ) rows_of_company
        CROSS JOIN LATERAL (
            SELECT count(*) AS weekdays FROM generate_series((before + 1)::timestamp, stock_date, interval '1 day') AS d
            WHERE extract(isodow FROM d) < 6
        ) gap
    ) usual
)
SELECT
    coalesce(k.company_name, w.company_name)::text AS company_name,
    k.first_day,
    k.last_day,
    coalesce(k.rows, 0) AS rows,
    k.loaded_at,
    k.run_id,
    CASE
        WHEN w.state IS NOT NULL THEN w.state WHEN s.is_unusual OR k.last_day IS NULL THEN 'stale'
        WHEN s.company_name IS NOT NULL THEN 'quiet' ELSE 'fresh'
    END AS state,
    CASE
        WHEN w.state IS NOT NULL THEN (w.since AT TIME ZONE 'UTC')::date
        WHEN s.company_name IS NOT NULL THEN k.last_day + 1
    END AS since,
    w.reason,
    CASE WHEN k.last_day IS NOT NULL THEN coalesce(s.days_behind, 0) END AS days_behind
FROM known k
FULL JOIN waiting w ON w.company_name = k.company_name
LEFT JOIN silent s ON s.company_name = k.company_name;

CREATE OR REPLACE VIEW stock_batch_status AS
SELECT
    CASE
        WHEN coalesce(s.companies, 0) = 0 THEN 'empty'
        WHEN attempt.state = 'failed' THEN 'failed'
        WHEN now() - l.loaded_at > r.late_after THEN 'late'
        WHEN s.quarantined + s.held_back > 0 OR s.newly_stale > r.stale_share * s.companies THEN 'incomplete'
        ELSE 'complete'
    END AS state,
    s.newest_day, l.loaded_at, l.run_id, s.companies, s.fresh, s.quiet, s.stale, s.quarantined, s.held_back, s.never_loaded, s.rows,
    attempt.error
FROM stock_freshness_rules r
CROSS JOIN (
    SELECT
        count(*) FILTER (WHERE rows > 0) AS companies,
        count(*) FILTER (WHERE rows > 0 AND state = 'fresh') AS fresh,
        count(*) FILTER (WHERE rows > 0 AND state = 'quiet') AS quiet,
        count(*) FILTER (WHERE rows > 0 AND state = 'stale') AS stale,
        count(*) FILTER (WHERE rows > 0 AND state = 'quarantined') AS quarantined,
        count(*) FILTER (WHERE rows > 0 AND state = 'held back') AS held_back,
        count(*) FILTER (WHERE rows = 0) AS never_loaded,
        count(*) FILTER (WHERE rows > 0 AND state = 'stale' AND days_behind <= rule.new_for_days) AS newly_stale,
        coalesce(sum(rows), 0)::bigint AS rows,
        min(last_day) FILTER (WHERE days_behind = 0) AS newest_day
    FROM stock_data_status CROSS JOIN stock_freshness_rules rule
) s
LEFT JOIN (
    SELECT run_id, loaded_at FROM loads WHERE kind <> 'undo' AND undone_by IS NULL ORDER BY load DESC LIMIT 1
) l ON true
LEFT JOIN (SELECT state, receipt ->> 'error' AS error FROM pipeline_runs ORDER BY number DESC LIMIT 1) attempt ON true;

-- Names only: read_prices finds the company that a ticker means.
DO $$
BEGIN
    GRANT SELECT ON stock_freshness_rules, stock_returns, stock_latest_prices, stock_data_status, stock_batch_status
    TO stock_prices_reader;
    GRANT SELECT (company_name) ON loaded_companies TO stock_prices_reader;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'The role stock_prices_reader is not there, or not ours to grant to.';
END
$$;

COMMENT ON VIEW stock_returns IS 'stock_prices with the close of the company''s trading day before, and the percent change between both.';
COMMENT ON VIEW stock_latest_prices IS 'The newest row of each company in stock_prices.';
COMMENT ON VIEW stock_data_status IS 'One row a company: how far its prices go, when they were loaded, and whether it is fresh.';
COMMENT ON VIEW stock_batch_status IS 'One row: whether all companies have the newest day, and whether the last run did its work.';
COMMENT ON VIEW stock_freshness_rules IS 'One row: the numbers that stock_data_status and stock_batch_status judge by.';
COMMENT ON COLUMN stock_returns.previous_close_value IS 'Price at close of the company''s row before, USD; null in its first row';
COMMENT ON COLUMN stock_returns.close_percent_change IS '(close / close of the row before - 1) * 100, percent, rounded to 6 digits; null in a company''s first row';
COMMENT ON COLUMN stock_data_status.company_name IS 'Company file; also one that was never loaded, when the last batch left it out';
COMMENT ON COLUMN stock_data_status.first_day IS 'First trading day that the table has of it';
COMMENT ON COLUMN stock_data_status.last_day IS 'Last trading day that the table has of it';
COMMENT ON COLUMN stock_data_status.rows IS 'Rows that were loaded; 0: never loaded';
COMMENT ON COLUMN stock_data_status.loaded_at IS 'When rows of it were last loaded; an unchanged company keeps its time';
COMMENT ON COLUMN stock_data_status.run_id IS 'The run that did';
COMMENT ON COLUMN stock_data_status.state IS 'fresh: it has the newest day; quiet: not, which is usual for it; stale: not, which is unusual for it; quarantined, held back: the last batch left its file out, and it keeps its earlier rows';
COMMENT ON COLUMN stock_data_status.since IS 'quiet, stale: the day after its last day; quarantined, held back: the day (UTC) of the first of the last batches in a row that left it out; else null';
COMMENT ON COLUMN stock_data_status.reason IS 'Why the last batch left it out; else null';
COMMENT ON COLUMN stock_data_status.days_behind IS 'Calendar days between its last day and the newest day; null without rows';
COMMENT ON COLUMN stock_batch_status.state IS 'complete: all is as it should be; incomplete: companies with rows are quarantined, held back or newly stale; late: nothing was loaded for late_after; failed: the last run failed, the rows are those of the load before; empty: nothing was ever loaded';
COMMENT ON COLUMN stock_batch_status.newest_day IS 'The last trading day that newest_day_share of the companies have reached';
COMMENT ON COLUMN stock_batch_status.loaded_at IS 'When the rows of the last load became visible; also of a load that found nothing new';
COMMENT ON COLUMN stock_batch_status.run_id IS 'The run that loaded them';
COMMENT ON COLUMN stock_batch_status.companies IS 'Companies with rows: fresh, quiet, stale, quarantined or held back';
COMMENT ON COLUMN stock_batch_status.fresh IS 'Of these, companies in this state';
COMMENT ON COLUMN stock_batch_status.quiet IS 'Of these, companies in this state';
COMMENT ON COLUMN stock_batch_status.stale IS 'Of these, companies in this state';
COMMENT ON COLUMN stock_batch_status.quarantined IS 'Of these, companies in this state';
COMMENT ON COLUMN stock_batch_status.held_back IS 'Of these, companies in this state';
COMMENT ON COLUMN stock_batch_status.never_loaded IS 'Companies that the last batch left out and that have no rows';
COMMENT ON COLUMN stock_batch_status.rows IS 'Rows that were loaded, of all companies';
COMMENT ON COLUMN stock_batch_status.error IS 'Why the last run failed; else null';
COMMENT ON COLUMN stock_freshness_rules.late_after IS 'How old the last load may be. Reason: after a Friday''s batch and a Monday without trading, the next one comes on Tuesday, 4 days later';
COMMENT ON COLUMN stock_freshness_rules.newest_day_share IS 'Share of companies that must have reached a day to make it the newest one. Reason: one file with a wrong year must not make all others stale';
COMMENT ON COLUMN stock_freshness_rules.usual_rows IS 'Rows of a company that say how many weekdays it is at most without one. Reason: about a month of trading; of 995 real companies some 35 lack any newest day, because they are seldom traded';
COMMENT ON COLUMN stock_freshness_rules.usual_times IS 'Stale is a company that is without a row for more than so many times that number. Reason: of 995 real companies 1.3 were falsely stale on a mean day of 2017, without this factor 3.0';
COMMENT ON COLUMN stock_freshness_rules.new_for_days IS 'For how many days a stale company makes the batch incomplete. Reason: a share that is traded no more would do so for ever; a week is time to look at it';
COMMENT ON COLUMN stock_freshness_rules.stale_share IS 'Share of companies that must be newly stale to make the batch incomplete. Reason: those 1.3 of 995 must not';

-- The same column is the same thing: one comment for all views, and for the table.
DO $$
DECLARE
    relation text;
    named record;
BEGIN
    FOREACH relation IN ARRAY ARRAY['historical_stocks_data', 'stock_prices_as_written', 'stock_returns', 'stock_latest_prices',
                                    'stock_prices_unflagged'] LOOP
        FOR named IN
            SELECT a.attname, col_description(a.attrelid, a.attnum) AS says FROM pg_attribute a
            WHERE a.attrelid = 'stock_prices'::regclass AND a.attnum > 0
        LOOP
            EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', relation, named.attname, named.says);
        END LOOP;
    END LOOP;
END
$$;
