-- The one statement that puts rows into the table: slices of the combined file, streamed by the load.
-- Text format is safe for them: they hold no quote, backslash or tab (etl/files/combined_file.py), and an empty field is NULL.
-- In psql, for a whole combined file: \copy historical_stocks_data FROM 'historical_stock_data.csv' (DELIMITER ',', NULL '')
COPY historical_stocks_data (
    stock_date, open_value, high_value, low_value, close_value, volume_traded,
    daily_percent_change, value_change, company_name
) FROM STDIN (FORMAT text, DELIMITER ',', NULL '', ENCODING 'UTF8');
