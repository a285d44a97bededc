-- Queries of the report page, read as queries.sql is. They change nothing, and none may take long.

-- name: report_timeout
-- No statement of this transaction takes longer: a page is not worth a slow database.
SELECT set_config('statement_timeout', %(milliseconds)s, true);

-- name: report_runs
-- The newest attempts, newest first, with what a list of them shows.
SELECT run_id, state, started_at, elapsed_seconds::float8, (receipt->'rows'->>'accepted')::bigint,
       (receipt->'rows'->>'inserted')::bigint, (receipt->'rows'->>'deleted')::bigint,
       (receipt->'rows'->>'rejected')::bigint, (receipt->'files'->>'quarantined')::bigint,
       coalesce((receipt->>'restated')::bigint, 0)
FROM (SELECT * FROM pipeline_runs ORDER BY number DESC LIMIT %(limit)s) newest ORDER BY number DESC;

-- name: report_companies
-- What is loaded of each company.
SELECT company_name, rows, last_day, loaded_at, run_id, sha256 FROM loaded_companies ORDER BY company_name;

-- name: report_moves
-- Of the companies whose last day this is: open and close, and the close of the day before, of the ten days before.
SELECT company_name, open_value, close_value, close_before FROM (
    SELECT t.company_name, t.stock_date, t.open_value::float8, t.close_value::float8,
           lag(t.close_value::float8) OVER days AS close_before
    FROM loaded_companies l CROSS JOIN generate_series(0, 10) AS back JOIN historical_stocks_data t
        ON t.company_name = l.company_name
        AND make_date(substr(t.stock_date, 1, 4)::int, substr(t.stock_date, 6, 2)::int, substr(t.stock_date, 9, 2)::int)
            = %(day)s::date - back
    WHERE l.last_day = %(day)s
    WINDOW days AS (PARTITION BY t.company_name ORDER BY t.stock_date)
) rows_of_days WHERE stock_date = %(day)s;

-- name: report_closes
-- Closing prices of some companies as they are, each over its own days.
SELECT t.company_name, t.stock_date, t.close_value::float8
FROM unnest(%(companies)s::text[], %(first_days)s::text[], %(last_days)s::text[]) AS span (company_name, first_day, last_day)
JOIN historical_stocks_data t
    ON t.company_name = span.company_name
    AND make_date(substr(t.stock_date, 1, 4)::int, substr(t.stock_date, 6, 2)::int, substr(t.stock_date, 9, 2)::int)
        BETWEEN span.first_day::date AND span.last_day::date
ORDER BY t.company_name, t.stock_date;

-- name: report_closes_before
-- What loads did to these days, from a load on, the newest first: with the closing prices that they replaced.
SELECT c.company_name, c.load, c.change, c.stock_date, c.last_date, c.close_value::float8
FROM unnest(%(companies)s::text[], %(first_days)s::text[], %(last_days)s::text[]) AS span (company_name, first_day, last_day)
JOIN price_changes c ON c.company_name = span.company_name
WHERE c.load >= %(load)s AND (c.change IN ('new', 'grew') OR c.stock_date BETWEEN span.first_day AND span.last_day)
ORDER BY c.load DESC;

-- name: report_months
-- How many days these companies have in each month.
SELECT company_name, substr(stock_date, 1, 7), count(*) FROM historical_stocks_data
WHERE company_name = ANY(%(companies)s) GROUP BY 1, 2;

-- name: report_new_months
-- The same of the days that follow a company's last known one, by the traders' index, company by company.
SELECT known.company_name, substr(t.stock_date, 1, 7), count(*)
FROM unnest(%(companies)s::text[], %(last_days)s::text[]) AS known (company_name, last_day)
CROSS JOIN LATERAL (
    SELECT stock_date FROM historical_stocks_data
    WHERE company_name = known.company_name
      AND make_date(substr(stock_date, 1, 4)::int, substr(stock_date, 6, 2)::int, substr(stock_date, 9, 2)::int)
          > known.last_day::date
    OFFSET 0 -- keeps the planner from reading the whole table
) t
GROUP BY 1, 2;
