-- Who holds the load's lock, for the message of the one that waited in vain.
SELECT a.pid, a.application_name, a.usename, a.xact_start
FROM pg_locks l
JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((l.classid::bigint << 32) | l.objid::bigint) = (hashtext('historical_stocks_data')::bigint);
