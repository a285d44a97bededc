-- Is there anything in the table; is there by the ledger; and does the table note who writes to it beside the loads?
SELECT
    EXISTS (SELECT FROM historical_stocks_data),
    EXISTS (SELECT FROM loaded_companies WHERE rows > 0),
    EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'historical_stocks_data'::regclass AND tgname = 'note_change_by_hand' AND tgenabled IN ('O', 'A')
    );
