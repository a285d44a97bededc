-- Companies whose rows in the table are not as many as the ledger says.
SELECT coalesce(t.company_name, l.company_name, '(null)'), coalesce(t.rows, 0), coalesce(l.rows, 0)
FROM (SELECT company_name, count(*) AS rows FROM historical_stocks_data GROUP BY company_name) t
FULL JOIN loaded_companies l USING (company_name)
WHERE coalesce(t.rows, 0) <> coalesce(l.rows, 0)
ORDER BY 1;
