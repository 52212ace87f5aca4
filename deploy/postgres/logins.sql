-- Creates the three logins of docs/access.md, by psql as an administrator in the database that Facet is to use.
--
-- Passwords come from the environment, so that no list of processes shows them. It may run again: roles that exist are
-- kept, and their passwords set again. Tables that another user made before become the migrator's.
\set ON_ERROR_STOP on
\getenv migrator_password FACET_MIGRATOR_PASSWORD
\getenv worker_password FACET_WORKER_PASSWORD
\getenv reader_password FACET_READER_PASSWORD

BEGIN;

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['facet_reader', 'facet_worker', 'facet_migrator', 'facet_work', 'facet_read']) AS name
WHERE to_regrole(name) IS NULL
\gexec

ALTER ROLE facet_migrator LOGIN PASSWORD :'migrator_password';
ALTER ROLE facet_work LOGIN PASSWORD :'worker_password';
ALTER ROLE facet_read LOGIN PASSWORD :'reader_password';
GRANT facet_reader TO facet_migrator, facet_read;
GRANT facet_worker TO facet_work;

ALTER DATABASE :"DBNAME" OWNER TO facet_migrator;
REVOKE CONNECT ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO facet_worker, facet_reader;
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;

-- Limits of readers, which `facet db upgrade` may not set as the migrator (db/schema/roles.py).
SELECT format('ALTER ROLE %I IN DATABASE %I SET %s = %L', role, current_database(), name, value)
FROM unnest(ARRAY['facet_reader', 'facet_read']) AS role, (VALUES
    ('statement_timeout', '10min'),
    ('idle_in_transaction_session_timeout', '10min'),
    ('default_transaction_read_only', 'on'),
    ('work_mem', '64MB'),
    ('enable_memoize', 'off'),
    ('join_collapse_limit', '11'),
    ('from_collapse_limit', '11'),
    ('cpu_operator_cost', '0.005'),
    ('temp_file_limit', '10GB')
) AS limits (name, value)
\gexec

-- What one login for all made before; sequences of columns follow their tables.
SELECT format('ALTER SCHEMA %I OWNER TO facet_migrator', nspname) FROM pg_namespace WHERE nspname = 'facet'
UNION ALL
SELECT format('ALTER TABLE %s OWNER TO facet_migrator', oid::regclass)
FROM pg_class WHERE relnamespace = to_regnamespace('facet') AND relkind IN ('r', 'p', 'v', 'm')
UNION ALL
SELECT format('ALTER SEQUENCE %s OWNER TO facet_migrator', oid::regclass)
FROM pg_class AS c
WHERE relnamespace = to_regnamespace('facet') AND relkind = 'S'
    AND NOT EXISTS (
        SELECT FROM pg_depend WHERE objid = c.oid AND classid = 'pg_class'::regclass AND deptype IN ('a', 'i')
    )
UNION ALL
SELECT format('ALTER ROUTINE %s OWNER TO facet_migrator', oid::regprocedure)
FROM pg_proc WHERE pronamespace = to_regnamespace('facet')
UNION ALL
SELECT format('ALTER STATISTICS facet.%I OWNER TO facet_migrator', stxname)
FROM pg_statistic_ext WHERE stxnamespace = to_regnamespace('facet')
UNION ALL
SELECT format('ALTER TYPE %s OWNER TO facet_migrator', oid::regtype)
FROM pg_type WHERE typnamespace = to_regnamespace('facet') AND typtype IN ('e', 'd')
\gexec

COMMIT;
