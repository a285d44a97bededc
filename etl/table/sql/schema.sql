-- Everything that the pipeline needs in its database, safe to run again.

-- The contract with the traders: nine text columns in this order, values as they were written. Nothing is added to it.
CREATE TABLE IF NOT EXISTS historical_stocks_data (
    stock_date           VARCHAR(56),
    open_value           VARCHAR(56),
    high_value           VARCHAR(56),
    low_value            VARCHAR(56),
    close_value          VARCHAR(56),
    volume_traded        VARCHAR(56),
    daily_percent_change VARCHAR(56),
    value_change         VARCHAR(56),
    company_name         VARCHAR(56)
);

-- The ledger: the slice last loaded for each company. It is why nothing is loaded twice and an unchanged batch is free.
CREATE TABLE IF NOT EXISTS loaded_companies (
    company_name VARCHAR(56) PRIMARY KEY,
    sha256       CHAR(64)    NOT NULL,
    length       BIGINT      NOT NULL,
    rows         BIGINT      NOT NULL,
    run_id       TEXT        NOT NULL,
    loaded_at    TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- One row for each attempted run: its receipt. attempt_id lets a load that lost its connection during COMMIT find out.
CREATE TABLE IF NOT EXISTS pipeline_runs (
    attempt_id      UUID        PRIMARY KEY,
    run_id          TEXT        NOT NULL,
    state           TEXT        NOT NULL,
    started_at      TIMESTAMPTZ NOT NULL,
    elapsed_seconds NUMERIC     NOT NULL,
    receipt         JSONB       NOT NULL
);

-- Writes to the table that were not a load's, one row a user and kind of statement. It is how a load learns of them
-- without counting two million rows; an INSERT, UPDATE, DELETE or TRUNCATE of many rows costs one row here.
CREATE TABLE IF NOT EXISTS changes_by_hand (
    changed_by TEXT        NOT NULL,
    operation  TEXT        NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (changed_by, operation)
);

-- It runs with its owner's rights, and whoever may call it could put it on a table of their own. So nobody may, and it writes
-- where it is itself: the schema of a table is not to be trusted, as everybody may make temporary ones.
CREATE OR REPLACE FUNCTION note_change_by_hand() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    place text;
BEGIN
    IF current_setting('moving_big_data.loading', true) IS DISTINCT FROM 'on' THEN
        SELECT p.pronamespace::regnamespace INTO place FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE t.tgrelid = TG_RELID AND t.tgname = TG_NAME;
        IF TG_RELID IS DISTINCT FROM to_regclass(place || '.historical_stocks_data') THEN
            RAISE EXCEPTION 'note_change_by_hand() is for the table historical_stocks_data next to it'
            USING ERRCODE = 'insufficient_privilege';
        END IF;
        EXECUTE
            'INSERT INTO ' || place || '.changes_by_hand (changed_by, operation) VALUES ($1, $2)
             ON CONFLICT (changed_by, operation) DO UPDATE SET changed_at = now()'
        USING session_user::text, TG_OP;
    END IF;
    RETURN NULL;
END
$$ SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION note_change_by_hand() FROM PUBLIC;

CREATE OR REPLACE TRIGGER note_change_by_hand
AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON historical_stocks_data
FOR EACH STATEMENT EXECUTE FUNCTION note_change_by_hand();

-- An older version's index: the next load builds a smaller one (queries.sql, build_table_index). By its table, because another
-- schema of the search path may have one of that name.
DO $$
DECLARE
    old regclass := (
        SELECT indexrelid FROM pg_index JOIN pg_class i ON i.oid = indexrelid
        WHERE indrelid = 'historical_stocks_data'::regclass AND i.relname = 'historical_stocks_data_company_date'
    );
BEGIN
    IF old IS NOT NULL THEN
        EXECUTE format('DROP INDEX %s', old);
    END IF;
END
$$;

-- What traders query: the same rows, typed. Every value that the load accepts can be cast. The day is not cast, because
-- that depends on the session's settings, so no index could serve it: the load builds one on this very expression.
CREATE OR REPLACE VIEW stock_prices AS
SELECT
    make_date(substr(stock_date, 1, 4)::int, substr(stock_date, 6, 2)::int, substr(stock_date, 9, 2)::int) AS stock_date,
    open_value::numeric            AS open_value,
    high_value::numeric            AS high_value,
    low_value::numeric             AS low_value,
    close_value::numeric           AS close_value,
    volume_traded::numeric::bigint AS volume_traded,
    daily_percent_change::numeric  AS daily_percent_change,
    value_change::numeric          AS value_change,
    company_name
FROM historical_stocks_data;

-- The same rows as text, for readers that parse numbers themselves (etl.read_prices): a third of the server's work.
CREATE OR REPLACE VIEW stock_prices_as_written AS
SELECT stock_date, open_value, high_value, low_value, close_value, volume_traded,
       daily_percent_change, value_change, company_name
FROM historical_stocks_data;

-- Who may only read: grant it to a trader's login. Making a role needs a right that not every owner of a table has.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'stock_prices_reader') THEN
        CREATE ROLE stock_prices_reader NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- an init-db of another database of this server has just made it
    WHEN insufficient_privilege THEN
        NULL; -- said below
END
$$;

-- Between making the role and granting to it: a change of the catalogs of our own lets this session see a role that another one
-- has made meanwhile. Otherwise GRANT may look it up as of a moment before.
COMMENT ON TABLE historical_stocks_data IS 'Daily share prices as they were delivered, one row a company and trading day. Query the view stock_prices.';
COMMENT ON TABLE loaded_companies IS 'Ledger of the load: the slice of the combined file last loaded for each company.';
COMMENT ON TABLE pipeline_runs IS 'Receipts: what each attempted run did.';
COMMENT ON TABLE changes_by_hand IS 'Writes to historical_stocks_data that no load made.';
COMMENT ON VIEW stock_prices IS 'Daily share prices, typed: one row a company and trading day. Prices are as delivered; the publisher adjusts them backwards for splits and dividends.';
COMMENT ON VIEW stock_prices_as_written IS 'The rows of stock_prices as text, as they were delivered.';
COMMENT ON COLUMN stock_prices.stock_date IS 'Trading day, of the exchange''s calendar';
COMMENT ON COLUMN stock_prices.open_value IS 'Price at open, USD a share, adjusted backwards as delivered';
COMMENT ON COLUMN stock_prices.high_value IS 'Highest price of the day, USD a share, adjusted backwards as delivered';
COMMENT ON COLUMN stock_prices.low_value IS 'Lowest price of the day, USD a share, adjusted backwards as delivered';
COMMENT ON COLUMN stock_prices.close_value IS 'Price at close, USD a share, adjusted backwards as delivered';
COMMENT ON COLUMN stock_prices.volume_traded IS 'Shares traded on the day, as delivered';
COMMENT ON COLUMN stock_prices.daily_percent_change IS '((close - open) / open) * 100 of the same day, percent: 2.5 is 2.5 %; null where open is 0. From close to close: stock_returns.close_percent_change';
COMMENT ON COLUMN stock_prices.value_change IS 'close - open of the same day, USD a share';
COMMENT ON COLUMN stock_prices.company_name IS 'Company file that the row came from, such as ge.us.csv';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'stock_prices_reader') THEN
        GRANT SELECT ON stock_prices, stock_prices_as_written TO stock_prices_reader;
    ELSE
        RAISE NOTICE 'The role stock_prices_reader was not made: this user may not make roles.';
    END IF;
END
$$;
