-- Takes such a login away, with its open sessions. One that owns objects stays, without a right and without the right to log in.
REVOKE stock_prices_reader FROM {role};
ALTER ROLE {role} NOLOGIN;
DO $$
BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {name};
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'Its sessions could not be ended: they may read nothing any more.';
END
$$;
DO $$
BEGIN
    DROP ROLE {role};
EXCEPTION WHEN dependent_objects_still_exist THEN
    RAISE NOTICE 'It owns objects and stays, without the right to log in.';
END
$$;
