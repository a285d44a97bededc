-- One load at a time; the lock goes with the transaction, however that ends.
SELECT pg_advisory_xact_lock(hashtext('historical_stocks_data'));
