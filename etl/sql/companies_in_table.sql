-- Which of these companies have rows in the table; asked only for those that the ledger does not know.
SELECT DISTINCT company_name FROM historical_stocks_data WHERE company_name = ANY(%(companies)s);
