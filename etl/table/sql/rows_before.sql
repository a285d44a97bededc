-- What would go when these companies are replaced by their rows since a day: older rows, and of how many companies.
SELECT count(*), count(DISTINCT company_name) FROM historical_stocks_data
WHERE company_name = ANY(%(companies)s) AND stock_date < %(since)s;
