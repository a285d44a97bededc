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

CREATE OR REPLACE FUNCTION note_change_by_hand() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF current_setting('moving_big_data.loading', true) IS DISTINCT FROM 'on' THEN
        EXECUTE format(
            'INSERT INTO %I.changes_by_hand (changed_by, operation) VALUES ($1, $2)
             ON CONFLICT (changed_by, operation) DO UPDATE SET changed_at = now()', TG_TABLE_SCHEMA)
        USING session_user::text, TG_OP;
    END IF;
    RETURN NULL;
END
$$ SET search_path = pg_catalog;

CREATE OR REPLACE TRIGGER note_change_by_hand
AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON historical_stocks_data
FOR EACH STATEMENT EXECUTE FUNCTION note_change_by_hand();

-- What traders query: the same rows, typed. Every value that the load accepts can be cast.
CREATE OR REPLACE VIEW stock_prices AS
SELECT
    stock_date::date               AS stock_date,
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
    GRANT SELECT ON stock_prices, stock_prices_as_written TO stock_prices_reader;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'The role stock_prices_reader was not made: this user may not make roles.';
END
$$;

COMMENT ON TABLE historical_stocks_data IS 'Daily share prices as they were delivered, one row a company and trading day. Query the view stock_prices.';
COMMENT ON TABLE loaded_companies IS 'Ledger of the load: the slice of the combined file last loaded for each company.';
COMMENT ON TABLE pipeline_runs IS 'Receipts: what each attempted run did.';
COMMENT ON TABLE changes_by_hand IS 'Writes to historical_stocks_data that no load made.';
COMMENT ON VIEW stock_prices IS 'Daily share prices, typed: one row a company and trading day.';
COMMENT ON VIEW stock_prices_as_written IS 'The rows of stock_prices as text, as they were delivered.';
COMMENT ON COLUMN stock_prices.stock_date IS 'Trading day';
COMMENT ON COLUMN stock_prices.open_value IS 'Price at open, USD';
COMMENT ON COLUMN stock_prices.high_value IS 'Highest price of the day, USD';
COMMENT ON COLUMN stock_prices.low_value IS 'Lowest price of the day, USD';
COMMENT ON COLUMN stock_prices.close_value IS 'Price at close, USD';
COMMENT ON COLUMN stock_prices.volume_traded IS 'Shares traded';
COMMENT ON COLUMN stock_prices.daily_percent_change IS '((close - open) / open) * 100, percent; null where open is 0';
COMMENT ON COLUMN stock_prices.value_change IS 'close - open, USD';
COMMENT ON COLUMN stock_prices.company_name IS 'Company file that the row came from';

-- The loads that were committed, in their order; everything below counts by their numbers. `undo` marks what it took
-- back; where `journal_kept` is false, the journal of that load is gone, or was never written (a table of version 0.1).
CREATE TABLE IF NOT EXISTS loads (
    load         BIGINT      PRIMARY KEY,
    run_id       TEXT        NOT NULL,
    kind         TEXT        NOT NULL CHECK (kind IN ('load', 'undo', 'upgrade')),
    loaded_at    TIMESTAMPTZ NOT NULL,
    journal_kept BOOLEAN     NOT NULL DEFAULT true,
    undone_by    TEXT
);

-- The journal: every row that a load changed, removed or added in a company that was there before, with its old values.
-- 'new' (a company that was not there; no day: all its days) and 'grew' (days after the last one) are ranges of `rows` days.
CREATE TABLE IF NOT EXISTS price_changes (
    load                 BIGINT NOT NULL,
    rows                 BIGINT,
    change               TEXT   NOT NULL CHECK (change IN ('changed', 'removed', 'added', 'grew', 'new')),
    company_name         VARCHAR(56),
    stock_date           VARCHAR(56),
    last_date            VARCHAR(56),
    open_value           VARCHAR(56),
    high_value           VARCHAR(56),
    low_value            VARCHAR(56),
    close_value          VARCHAR(56),
    volume_traded        VARCHAR(56),
    daily_percent_change VARCHAR(56),
    value_change         VARCHAR(56)
);
CREATE INDEX IF NOT EXISTS price_changes_company_load ON price_changes (company_name, load);

-- The ledger's own journal: the entry that a load replaced; of a company that was new, nothing but its name.
CREATE TABLE IF NOT EXISTS ledger_changes (
    load         BIGINT NOT NULL,
    company_name VARCHAR(56) NOT NULL,
    sha256       CHAR(64),
    length       BIGINT,
    rows         BIGINT,
    run_id       TEXT,
    loaded_at    TIMESTAMPTZ,
    last_day     VARCHAR(56),
    sha256_by_day CHAR(64),
    PRIMARY KEY (company_name, load)
);

-- What loads did to the history of companies, by name (etl/table/restatements.py).
CREATE TABLE IF NOT EXISTS restatements (
    load          BIGINT NOT NULL,
    company_name  VARCHAR(56) NOT NULL,
    kind          TEXT   NOT NULL,
    rows          BIGINT NOT NULL,
    first_day     VARCHAR(56),
    last_day      VARCHAR(56),
    factor        DOUBLE PRECISION,
    volume_factor DOUBLE PRECISION,
    whole         BOOLEAN NOT NULL,
    examples      JSONB  NOT NULL,
    PRIMARY KEY (load, company_name, kind)
);

-- A database of version 0.1: the last day of each loaded company, and the load that the journal begins behind.
-- `sha256_by_day` is of the rows in the order of their days, where that is known not to be the order of the file.
ALTER TABLE loaded_companies ADD COLUMN IF NOT EXISTS last_day VARCHAR(56);
ALTER TABLE loaded_companies ADD COLUMN IF NOT EXISTS sha256_by_day CHAR(64);
ALTER TABLE pipeline_runs ADD COLUMN IF NOT EXISTS number BIGINT GENERATED BY DEFAULT AS IDENTITY;
ALTER TABLE pipeline_runs ADD COLUMN IF NOT EXISTS sha256 CHAR(64); -- of the receipt, as the next one holds it
DO $$
BEGIN
    IF EXISTS (SELECT FROM loaded_companies WHERE last_day IS NULL AND rows > 0) THEN
        UPDATE loaded_companies l SET last_day = t.last_day
        FROM (SELECT company_name, max(stock_date) AS last_day FROM historical_stocks_data GROUP BY company_name) t
        WHERE t.company_name = l.company_name AND l.last_day IS NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM loads) THEN
        INSERT INTO loads (load, run_id, kind, loaded_at, journal_kept)
        SELECT 1, run_id, 'upgrade', clock_timestamp(), false FROM loaded_companies ORDER BY loaded_at DESC LIMIT 1;
    END IF;
END
$$;

CREATE OR REPLACE VIEW stock_price_loads AS SELECT load, run_id, kind, loaded_at, journal_kept, undone_by FROM loads;

CREATE OR REPLACE VIEW stock_price_changes AS
SELECT
    load, run_id, loaded_at, company_name, stock_date::date AS stock_date, last_date::date AS last_date, change,
    coalesce(rows, 1)              AS rows,
    open_value::numeric            AS open_value,
    high_value::numeric            AS high_value,
    low_value::numeric             AS low_value,
    close_value::numeric           AS close_value,
    volume_traded::numeric::bigint AS volume_traded,
    daily_percent_change::numeric  AS daily_percent_change,
    value_change::numeric          AS value_change
FROM price_changes JOIN loads USING (load);

-- The load whose rows the table held at a time. Raises where the journal does not reach back so far.
CREATE OR REPLACE FUNCTION stock_load_as_of(as_of timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    wanted bigint := coalesce((SELECT max(load) FROM stock_price_loads WHERE loaded_at <= as_of AND undone_by IS NULL), 0);
    kept   timestamptz := (SELECT max(loaded_at) FROM stock_price_loads WHERE load > wanted AND NOT journal_kept);
BEGIN
    IF kept IS NOT NULL THEN
        RAISE EXCEPTION 'the journal begins at %, what the table held at % is not known', kept, as_of
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN wanted;
END
$$;

-- The two functions below are the same question: rows that the table has now and no later load touched, and the old
-- values of the others as the first later load found them. The first answers in the table's text, for the pipeline; the
-- second typed, over views that traders may read. Plain SQL, so that a filter on the company reaches the indexes.
CREATE OR REPLACE FUNCTION rows_as_of_load(wanted bigint) RETURNS TABLE (
    stock_date varchar, open_value varchar, high_value varchar, low_value varchar, close_value varchar,
    volume_traded varchar, daily_percent_change varchar, value_change varchar, company_name varchar
) LANGUAGE sql STABLE AS $$
    SELECT p.stock_date, p.open_value, p.high_value, p.low_value, p.close_value, p.volume_traded, p.daily_percent_change,
           p.value_change, p.company_name
    FROM historical_stocks_data p
    LEFT JOIN (
        SELECT c.company_name, range_agg(daterange(c.stock_date::date, c.last_date::date, '[]')) AS days
        FROM price_changes c WHERE c.load > wanted AND c.change IN ('new', 'grew') GROUP BY c.company_name
    ) grown ON grown.company_name = p.company_name
    WHERE NOT coalesce(p.stock_date::date <@ grown.days, false)
      AND NOT EXISTS (
        SELECT FROM price_changes c
        WHERE c.company_name = p.company_name AND c.stock_date = p.stock_date AND c.load > wanted
          AND c.change IN ('changed', 'removed', 'added')
      )
    UNION ALL
    SELECT c.stock_date, c.open_value, c.high_value, c.low_value, c.close_value, c.volume_traded, c.daily_percent_change,
           c.value_change, c.company_name
    FROM price_changes c
    WHERE c.load > wanted AND c.change IN ('changed', 'removed')
      AND NOT EXISTS (
        SELECT FROM price_changes e
        WHERE e.company_name = c.company_name AND e.stock_date = c.stock_date AND e.load > wanted AND e.load < c.load
          AND e.change IN ('changed', 'removed', 'added')
      )
      AND NOT EXISTS (
        SELECT FROM price_changes e
        WHERE e.company_name = c.company_name AND e.load > wanted AND e.load < c.load AND e.change IN ('new', 'grew')
          AND c.stock_date::date <@ daterange(e.stock_date::date, e.last_date::date, '[]')
      )
$$;

CREATE OR REPLACE FUNCTION stock_prices_as_of(as_of timestamptz) RETURNS TABLE (
    stock_date date, open_value numeric, high_value numeric, low_value numeric, close_value numeric,
    volume_traded bigint, daily_percent_change numeric, value_change numeric, company_name varchar
) LANGUAGE sql STABLE AS $$
    SELECT p.stock_date, p.open_value, p.high_value, p.low_value, p.close_value, p.volume_traded, p.daily_percent_change,
           p.value_change, p.company_name
    FROM stock_prices p
    LEFT JOIN (
        SELECT c.company_name, range_agg(daterange(c.stock_date, c.last_date, '[]')) AS days
        FROM stock_price_changes c
        WHERE c.load > (SELECT stock_load_as_of(as_of)) AND c.change IN ('new', 'grew') GROUP BY c.company_name
    ) grown ON grown.company_name = p.company_name
    WHERE NOT coalesce(p.stock_date <@ grown.days, false)
      AND NOT EXISTS (
        SELECT FROM stock_price_changes c
        WHERE c.company_name = p.company_name AND c.stock_date = p.stock_date
          AND c.load > (SELECT stock_load_as_of(as_of)) AND c.change IN ('changed', 'removed', 'added')
      )
    UNION ALL
    SELECT c.stock_date, c.open_value, c.high_value, c.low_value, c.close_value, c.volume_traded, c.daily_percent_change,
           c.value_change, c.company_name
    FROM stock_price_changes c
    WHERE c.load > (SELECT stock_load_as_of(as_of)) AND c.change IN ('changed', 'removed')
      AND NOT EXISTS (
        SELECT FROM stock_price_changes e
        WHERE e.company_name = c.company_name AND e.stock_date = c.stock_date
          AND e.load > (SELECT stock_load_as_of(as_of)) AND e.load < c.load
          AND e.change IN ('changed', 'removed', 'added')
      )
      AND NOT EXISTS (
        SELECT FROM stock_price_changes e
        WHERE e.company_name = c.company_name
          AND e.load > (SELECT stock_load_as_of(as_of)) AND e.load < c.load AND e.change IN ('new', 'grew')
          AND c.stock_date <@ daterange(e.stock_date, e.last_date, '[]')
      )
$$;

DO $$
BEGIN
    GRANT SELECT ON stock_price_loads, stock_price_changes TO stock_prices_reader;
EXCEPTION WHEN undefined_object OR insufficient_privilege THEN
    RAISE NOTICE 'The role stock_prices_reader is not there, or not ours to grant to.';
END
$$;

COMMENT ON TABLE loads IS 'Loads that were committed, by number.';
COMMENT ON TABLE price_changes IS 'Journal: what loads changed, removed or added in companies that were there before. Query the view stock_price_changes.';
COMMENT ON TABLE ledger_changes IS 'Entries of the ledger that loads replaced.';
COMMENT ON TABLE restatements IS 'What loads did to the history of companies, by name.';
COMMENT ON VIEW stock_price_loads IS 'Loads: the run, when its rows became visible, and whether it was undone.';
COMMENT ON VIEW stock_price_changes IS 'What changed in stock_prices, with the values before: one row a change, or a range of days that were added.';
COMMENT ON COLUMN stock_price_changes.load IS 'Number of the load that made the change';
COMMENT ON COLUMN stock_price_changes.run_id IS 'Run that made the change';
COMMENT ON COLUMN stock_price_changes.loaded_at IS 'When the change became visible';
COMMENT ON COLUMN stock_price_changes.company_name IS 'Company file that the row came from';
COMMENT ON COLUMN stock_price_changes.stock_date IS 'Trading day; of a range the first one, null: all days of the company';
COMMENT ON COLUMN stock_price_changes.last_date IS 'Last trading day of a range; else null';
COMMENT ON COLUMN stock_price_changes.change IS 'changed, removed, added; grew (days after the last one), new (a company that was not there)';
COMMENT ON COLUMN stock_price_changes.rows IS 'Rows of a range; else 1';
COMMENT ON COLUMN stock_price_changes.open_value IS 'Price at open before the change, USD; null where there was no row';
COMMENT ON COLUMN stock_price_changes.high_value IS 'Highest price of the day before the change, USD';
COMMENT ON COLUMN stock_price_changes.low_value IS 'Lowest price of the day before the change, USD';
COMMENT ON COLUMN stock_price_changes.close_value IS 'Price at close before the change, USD';
COMMENT ON COLUMN stock_price_changes.volume_traded IS 'Shares traded before the change';
COMMENT ON COLUMN stock_price_changes.daily_percent_change IS 'Percent change before the change; null where open was 0';
COMMENT ON COLUMN stock_price_changes.value_change IS 'close - open before the change, USD';
COMMENT ON FUNCTION stock_prices_as_of(timestamptz) IS 'stock_prices as the table held them after the last load by this time; runs that were undone do not count.';
