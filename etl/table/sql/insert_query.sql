-- Inserts the combined file historical_stock_data.csv into the table, and updates it: rows that the file has otherwise are
-- replaced, rows of its companies that it lacks are removed, the same file again changes nothing. All of it or nothing.
--
-- psql:    run it in the folder of the combined file:  psql DATABASE_URL -f insert_query.sql
-- pgAdmin: run it in the PSQL Tool (\cd FOLDER, then \i insert_query.sql). The Query Tool knows no backslash commands:
--          run statement 1 there, import the file into new_stock_prices (Import/Export Data, format csv, delimiter a
--          comma), then select and run statement 3.
--
-- The pipeline needs none of this: its load copies what changed (queries.sql). Its mail reports what is written here as a
-- manual change until the table is again as it was loaded; `mbd load --reload` sees to that.
\set ON_ERROR_STOP on

-- 1. A table for the file's rows
DROP TABLE IF EXISTS new_stock_prices;
CREATE TABLE new_stock_prices (LIKE historical_stocks_data);

-- 2. The file, as the pipeline writes it: no quotes, and an empty field is NULL
\copy new_stock_prices FROM 'historical_stock_data.csv' (FORMAT text, DELIMITER ',', NULL '', ENCODING 'UTF8')

-- 3. The difference to what the table holds of these companies
BEGIN;
SELECT pg_advisory_xact_lock(hashtext('historical_stocks_data')); -- waits for a load, as loads wait for this
ANALYZE new_stock_prices;

DELETE FROM historical_stocks_data AS old
WHERE company_name IN (SELECT company_name FROM new_stock_prices)
  AND NOT EXISTS (
    SELECT FROM new_stock_prices AS new
    WHERE new.company_name = old.company_name AND new.stock_date = old.stock_date
      AND ROW(new.*) IS NOT DISTINCT FROM ROW(old.*)
  );

INSERT INTO historical_stocks_data (
    stock_date, open_value, high_value, low_value, close_value, volume_traded,
    daily_percent_change, value_change, company_name
)
SELECT stock_date, open_value, high_value, low_value, close_value, volume_traded,
       daily_percent_change, value_change, company_name
FROM new_stock_prices AS new
WHERE NOT EXISTS (
    SELECT FROM historical_stocks_data AS old
    WHERE old.company_name = new.company_name AND old.stock_date = new.stock_date
);

DROP TABLE new_stock_prices;
COMMIT;
