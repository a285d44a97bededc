-- The role that loads: rights on the pipeline's tables, and none to change or drop them. Safe to run again; the password comes as
-- a SCRAM verifier, so that no log of the server has it.
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
-- It finds the tables wherever they are, whatever schema else has its name.
ALTER ROLE {role} IN DATABASE {database} SET search_path = {schema}, public;
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
