-- One load at a time; the lock goes with the transaction, however that ends. Asked again and again rather than waited
-- for, because a process that waits inside the server does not hear a signal.
SELECT pg_try_advisory_xact_lock(hashtext('historical_stocks_data'));
