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
