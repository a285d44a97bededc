-- Rows in the table, and rows that the ledger knows of.
SELECT (SELECT count(*) FROM historical_stocks_data), (SELECT coalesce(sum(rows), 0)::bigint FROM loaded_companies);
