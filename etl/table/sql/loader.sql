-- The role that loads: rights on the pipeline's tables, and none to change or drop them. Safe to run again; the comment is how
-- another init-db knows the role as its own. The password comes as a SCRAM verifier, so that no log of the server has it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN
        CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- an init-db of another database of this server has just made it
END
$$;
ALTER ROLE {role} PASSWORD {password};
COMMENT ON ROLE {role} IS 'A loader of mbd init-db.';
-- It finds the tables wherever they are, whatever schema else has its name.
ALTER ROLE {role} IN DATABASE {database} SET search_path = {schema}, public;
GRANT USAGE ON SCHEMA {schema} TO {role};
-- By name: the schema may have tables of other people.
GRANT SELECT, INSERT, UPDATE, DELETE ON
    historical_stocks_data, loaded_companies, pipeline_runs, changes_by_hand, loads, price_changes, ledger_changes,
    restatements, rejected_rows, quarantined_files, flagged_rows, flag_changes
TO {role};
GRANT SELECT ON
    stock_prices, stock_prices_as_written, stock_prices_unflagged, stock_price_loads, stock_price_changes,
    stock_price_flags, stock_price_flag_changes, stock_freshness_rules, stock_returns, stock_latest_prices,
    stock_data_status, stock_batch_status
TO {role};
