-- How long a statement waits for somebody else's lock on a table, and who is writing: a load, not a hand. What the
-- database URL sets otherwise stays.
SELECT set_config('lock_timeout', %(milliseconds)s, false), set_config('moving_big_data.loading', 'on', false);
