-- Is there anything in the table?
SELECT EXISTS (SELECT FROM historical_stocks_data);
