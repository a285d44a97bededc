-- The table as it is, to be held against the contract before anything is loaded.
SELECT column_name || ' ' || data_type || coalesce('(' || character_maximum_length || ')', '')
FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = 'historical_stocks_data'
ORDER BY ordinal_position;
