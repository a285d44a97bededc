-- Does the traders' index exist?
SELECT to_regclass('historical_stocks_data_company_date') IS NOT NULL;
