-- How long a statement waits for somebody else's lock on a table; what the database URL sets otherwise stays.
SELECT set_config('lock_timeout', %(milliseconds)s, false);
