-- Companies of this batch that have rows in the table; asked only when the ledger does not account for every row.
SELECT DISTINCT company_name FROM historical_stocks_data WHERE company_name = ANY(%(companies)s);
