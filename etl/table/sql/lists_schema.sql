-- The lists of rows and files that people ask about, behind journal_schema.sql; safe to run again.

-- Rejected rows of all runs: of each file the first ones. Nobody but the owner and the loader may read what was refused:
-- it may be anything.
CREATE TABLE IF NOT EXISTS rejected_rows (
    run_id      TEXT        NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    file        TEXT        NOT NULL,
    line        BIGINT      NOT NULL,
    column_name TEXT        NOT NULL,
    value       TEXT        NOT NULL,
    reason      TEXT        NOT NULL,
    raw_line    TEXT        NOT NULL
);
CREATE INDEX IF NOT EXISTS rejected_rows_run ON rejected_rows (run_id);

CREATE TABLE IF NOT EXISTS quarantined_files (
    run_id      TEXT        NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    file        TEXT        NOT NULL,
    reason      TEXT        NOT NULL
);
CREATE INDEX IF NOT EXISTS quarantined_files_run ON quarantined_files (run_id);

-- Rows of the table that look wrong, as the slices that are loaded have them; `load` is the load that flagged them.
CREATE TABLE IF NOT EXISTS flagged_rows (
    load         BIGINT      NOT NULL,
    company_name VARCHAR(56) NOT NULL,
    stock_date   VARCHAR(56) NOT NULL,
    line         BIGINT      NOT NULL,
    column_name  TEXT        NOT NULL,
    value        VARCHAR(56) NOT NULL,
    rule         TEXT        NOT NULL,
    PRIMARY KEY (company_name, stock_date)
);

-- Flags that a load took back, for undo and for the past.
CREATE TABLE IF NOT EXISTS flag_changes (LIKE flagged_rows, until_load BIGINT NOT NULL);
CREATE INDEX IF NOT EXISTS flag_changes_company ON flag_changes (company_name, stock_date);

-- Who may load a table of an older version may write these too (init-db --loader gave rights on the tables of then).
DO $$
DECLARE
    loader text;
BEGIN
    FOR loader IN
        SELECT DISTINCT a.grantee::regrole::text FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = 'loaded_companies'::regclass AND a.privilege_type = 'INSERT' AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON rejected_rows, quarantined_files, flagged_rows, flag_changes TO '
            || loader;
    END LOOP;
END
$$;

CREATE OR REPLACE VIEW stock_price_flags AS
SELECT company_name, stock_date::date AS stock_date, line, column_name, value, rule, load FROM flagged_rows;

CREATE OR REPLACE VIEW stock_price_flag_changes AS
SELECT company_name, stock_date::date AS stock_date, line, column_name, value, rule, load, until_load FROM flag_changes;

-- The days that were flagged after the last load by a time.
CREATE OR REPLACE FUNCTION stock_price_flags_as_of(as_of timestamptz) RETURNS TABLE (
    company_name varchar, stock_date date
) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT f.company_name, f.stock_date FROM stock_price_flags f WHERE f.load <= (SELECT stock_load_as_of(as_of))
    UNION ALL
    SELECT c.company_name, c.stock_date FROM stock_price_flag_changes c
    WHERE c.load <= (SELECT stock_load_as_of(as_of)) AND c.until_load > (SELECT stock_load_as_of(as_of));
END;

-- The rows of stock_prices that are not flagged.
CREATE OR REPLACE VIEW stock_prices_unflagged AS
SELECT stock_date, open_value, high_value, low_value, close_value, volume_traded, daily_percent_change, value_change,
       company_name
FROM stock_prices p
WHERE NOT EXISTS (
    SELECT FROM stock_price_flags f WHERE f.company_name = p.company_name AND f.stock_date = p.stock_date
);

DO $$
BEGIN
    GRANT SELECT ON stock_price_flags, stock_price_flag_changes, stock_prices_unflagged TO stock_prices_reader;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'The role stock_prices_reader is not there, or not ours to grant to.';
END
$$;

COMMENT ON TABLE rejected_rows IS 'Rows that broke a rule, of all runs: of each company file the first ones, with the line as it was.';
COMMENT ON TABLE quarantined_files IS 'Company files that could not be used at all, of all runs.';
COMMENT ON TABLE flagged_rows IS 'Rows that were loaded and look wrong. Query the view stock_price_flags.';
COMMENT ON TABLE flag_changes IS 'Flags that a later load took back.';
COMMENT ON VIEW stock_price_flags IS 'Rows of stock_prices that look wrong, with the rule that says so.';
COMMENT ON VIEW stock_price_flag_changes IS 'Flags that rows had until a later load took them back.';
COMMENT ON VIEW stock_prices_unflagged IS 'The rows of stock_prices that are not flagged.';
COMMENT ON COLUMN stock_price_flags.company_name IS 'Company file that the row came from';
COMMENT ON COLUMN stock_price_flags.stock_date IS 'Trading day';
COMMENT ON COLUMN stock_price_flags.line IS 'Line in the company file, counted from 1';
COMMENT ON COLUMN stock_price_flags.column_name IS 'Column that looks wrong';
COMMENT ON COLUMN stock_price_flags.value IS 'Its value as it was delivered';
COMMENT ON COLUMN stock_price_flags.rule IS 'Why it looks wrong';
COMMENT ON COLUMN stock_price_flags.load IS 'Number of the load that flagged it';
COMMENT ON COLUMN stock_price_flag_changes.company_name IS 'Company file that the row came from';
COMMENT ON COLUMN stock_price_flag_changes.stock_date IS 'Trading day';
COMMENT ON COLUMN stock_price_flag_changes.line IS 'Line in the company file, counted from 1';
COMMENT ON COLUMN stock_price_flag_changes.column_name IS 'Column that looks wrong';
COMMENT ON COLUMN stock_price_flag_changes.value IS 'Its value as it was delivered';
COMMENT ON COLUMN stock_price_flag_changes.rule IS 'Why it looks wrong';
COMMENT ON COLUMN stock_price_flag_changes.load IS 'Number of the load that flagged it';
COMMENT ON COLUMN stock_price_flag_changes.until_load IS 'Number of the load that took it back';
