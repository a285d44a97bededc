-- What a careful user of \copy writes: all files into a staging table of text, each row checked there, the good ones inserted.
-- Printed are the companies of which a file or a row was left out.
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE TEMPORARY TABLE files (company_name text);
CREATE TEMPORARY TABLE staging (
    "Date" text, "Open" text, "High" text, "Low" text, "Close" text, "Volume" text, "OpenInt" text, company_name text
);
CREATE TABLE prices (
    date date NOT NULL, open numeric NOT NULL, high numeric NOT NULL, low numeric NOT NULL, close numeric NOT NULL,
    volume bigint NOT NULL, company_name text NOT NULL
);
-- files
CREATE FUNCTION pg_temp.price(written text) RETURNS numeric LANGUAGE sql AS $$
    SELECT CASE WHEN pg_input_is_valid(written, 'numeric') -- which takes blanks around a number
        AND written::numeric >= 0 AND written::numeric < 'Infinity' THEN written::numeric END
$$;
CREATE TEMPORARY TABLE checked AS
SELECT DISTINCT
    CASE WHEN btrim("Date") ~ '^\d{4}-\d{2}-\d{2}$' AND pg_input_is_valid("Date", 'date') THEN "Date"::date END AS date,
    pg_temp.price("Open") AS open, pg_temp.price("High") AS high,
    pg_temp.price("Low") AS low, pg_temp.price("Close") AS close,
    CASE WHEN pg_temp.price("Volume") = trunc(pg_temp.price("Volume")) AND pg_temp.price("Volume") < 2::numeric ^ 63
        THEN pg_temp.price("Volume")::bigint END AS volume,
    company_name
FROM staging;
DELETE FROM checked WHERE num_nulls(date, open, high, low, close, volume) > 0;
-- of two different rows of a day, neither is taken
DELETE FROM checked WHERE (company_name, date) IN (
    SELECT company_name, date FROM checked GROUP BY company_name, date HAVING count(*) > 1
);
INSERT INTO prices SELECT * FROM checked;
COMMIT;
SELECT company_name, 'read ' || count(staging) || ', inserted ' || (
    SELECT count(*) FROM prices WHERE prices.company_name = files.company_name
) FROM files LEFT JOIN staging USING (company_name) GROUP BY company_name
HAVING count(staging) = 0
    OR count(staging) > (SELECT count(*) FROM prices WHERE prices.company_name = files.company_name);
