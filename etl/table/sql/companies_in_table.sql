-- Which of these companies have rows in the table; asked only for those that the ledger does not know.
SELECT company_name FROM unnest(%(companies)s::text[]) AS batch (company_name)
WHERE EXISTS (SELECT FROM historical_stocks_data AS row WHERE row.company_name = batch.company_name);
