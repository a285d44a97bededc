-- Prices of some companies over a span of days, as CSV; the braces are filled with quoted literals, null = all.
COPY (
    SELECT stock_date, open_value, high_value, low_value, close_value, volume_traded,
           daily_percent_change, value_change, company_name
    FROM stock_prices
    WHERE ({companies}::text[] IS NULL OR company_name = ANY ({companies}::text[]))
      AND ({since}::date IS NULL OR stock_date >= {since}::date)
      AND ({until}::date IS NULL OR stock_date <= {until}::date)
    ORDER BY company_name, stock_date
) TO STDOUT (FORMAT csv, HEADER);
