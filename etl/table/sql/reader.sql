-- A login of somebody who reads: the role stock_prices_reader and nothing else. Safe to run again; the comment is how another
-- grant-reader knows the login as its own. The password comes as a SCRAM verifier, or stays as it is.
DO $$
BEGIN
    IF to_regrole(quote_ident({name})) IS NULL THEN
        CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
    END IF;
END
$$;
ALTER ROLE {role} LOGIN{password};
COMMENT ON ROLE {role} IS 'A login of mbd grant-reader.';
GRANT CONNECT ON DATABASE {database} TO stock_prices_reader;
GRANT USAGE ON SCHEMA {schema} TO stock_prices_reader;
-- It finds the views wherever they are.
ALTER ROLE {role} IN DATABASE {database} SET search_path = {schema}, public;
GRANT stock_prices_reader TO {role};
-- Before PostgreSQL 15 everybody may make functions in the schema public, such as a substr() that fits our columns better than
-- PostgreSQL's own, and the loader would call it with its rights. Where this user may not change that, make_reader refuses.
DO $$
DECLARE
    place text;
BEGIN
    FOR place IN SELECT nspname FROM pg_namespace WHERE nspname IN ({schema_name}, 'public') LOOP
        IF has_schema_privilege('public', place, 'CREATE') THEN
            EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', place);
        END IF;
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END
$$;
