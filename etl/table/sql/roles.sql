-- Queries about who may do what: readers, loaders and what others made, read as queries.sql is.

-- name: reader_state
-- Is there a role of this name; did grant-reader make it; is there the role that it gives; and may it write to the table?
SELECT
    pg_catalog.to_regrole(pg_catalog.quote_ident(%(login)s)) IS NOT NULL,
    coalesce(pg_catalog.shobj_description(
        pg_catalog.to_regrole(pg_catalog.quote_ident(%(login)s)), 'pg_authid'
    ) = 'A login of mbd grant-reader.', false),
    pg_catalog.to_regrole('stock_prices_reader') IS NOT NULL,
    coalesce(pg_catalog.has_table_privilege(
        pg_catalog.to_regrole(pg_catalog.quote_ident(%(login)s))::oid,
        pg_catalog.to_regclass('historical_stocks_data')::oid, 'INSERT, UPDATE, DELETE'
    ), false);

-- name: loader_state
-- Of a role of this name, if there is one: may it do more than a loader; does it read, as a trader does; has init-db made it,
-- or may it load already?
SELECT
    r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
        OR pg_catalog.pg_has_role(r.oid, t.relowner, 'MEMBER'),
    EXISTS (
        SELECT FROM pg_catalog.pg_auth_members m
        WHERE m.member = r.oid AND m.roleid = pg_catalog.to_regrole('stock_prices_reader')::oid
    ),
    coalesce(pg_catalog.shobj_description(r.oid, 'pg_authid') = 'A loader of mbd init-db.', false)
        OR pg_catalog.has_table_privilege(r.oid, t.oid, 'INSERT')
FROM pg_catalog.pg_roles r
CROSS JOIN pg_catalog.pg_class t
WHERE r.rolname = %(login)s AND t.oid = pg_catalog.to_regclass('historical_stocks_data')::oid;

-- name: has_readers
-- Has somebody the role that reads? This query, the one before and the next three run before it is known whether somebody has
-- made a function that would be called: so they name the schema of PostgreSQL's.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_auth_members WHERE roleid = pg_catalog.to_regrole('stock_prices_reader')::oid
);

-- name: close_schemas
-- Before PostgreSQL 15 everybody may make functions in the schema public, such as a substr() that fits our columns better than
-- PostgreSQL's own, and the loader would call it with its rights. Other schemas of the search path are for others to close.
DO $$
DECLARE
    place text;
BEGIN
    FOR place IN SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname IN (current_schema(), 'public') LOOP
        IF pg_catalog.has_schema_privilege('public', place, 'CREATE') THEN
            EXECUTE 'REVOKE CREATE ON SCHEMA ' || pg_catalog.quote_ident(place) || ' FROM PUBLIC';
        END IF;
    END LOOP;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END
$$;

-- name: open_schemas
-- Schemas in which the loader looks for functions and everybody may make them.
SELECT pg_catalog.quote_ident(nspname) FROM pg_catalog.pg_namespace
WHERE (nspname = ANY(pg_catalog.current_schemas(false)) OR nspname = 'public')
  AND pg_catalog.has_schema_privilege('public', oid, 'CREATE')
ORDER BY nspname;

-- name: foreign_functions
-- Functions and operators there that have a name of PostgreSQL's own, or of ours that a load calls, and belong neither to
-- the owner of the table (of no table yet: this user), nor to a member of that role, as a superuser is.
WITH owner AS (
    SELECT coalesce(
        (SELECT relowner FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass('historical_stocks_data')::oid),
        (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
    ) AS oid
), found AS (
    SELECT 'function' AS kind, proname AS name, pronamespace AS place, proowner AS belongs_to,
           pg_catalog.pg_get_function_identity_arguments(oid) AS arguments
    FROM pg_catalog.pg_proc
    WHERE proname IN (SELECT proname FROM pg_catalog.pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace::oid)
        OR proname IN ('rows_as_of_load', 'stock_prices_as_of', 'stock_price_flags_as_of')
    UNION ALL
    SELECT 'operator', oprname, oprnamespace, oprowner, pg_catalog.concat_ws(', ',
           pg_catalog.format_type(nullif(oprleft, 0::oid), NULL::int), pg_catalog.format_type(oprright, NULL::int))
    FROM pg_catalog.pg_operator
    WHERE oprname IN (SELECT oprname FROM pg_catalog.pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace::oid)
)
SELECT pg_catalog.format('%%s %%s.%%s(%%s) of %%s', found.kind, pg_catalog.quote_ident(nspname), found.name, found.arguments,
                         pg_catalog.pg_get_userbyid(found.belongs_to))
FROM found JOIN pg_catalog.pg_namespace n ON n.oid = found.place
WHERE (nspname = ANY(pg_catalog.current_schemas(false)) OR nspname = 'public')
  AND NOT pg_catalog.pg_has_role(found.belongs_to, (SELECT oid FROM owner), 'MEMBER')
ORDER BY nspname, found.name, found.arguments;
