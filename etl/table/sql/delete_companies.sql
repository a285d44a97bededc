-- Old rows of companies whose slice changed; their new rows follow in the same transaction.
DELETE FROM historical_stocks_data WHERE company_name = ANY(%(companies)s);
