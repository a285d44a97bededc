-- Who wrote to the table beside the loads.
SELECT changed_by, operation, changed_at FROM changes_by_hand ORDER BY changed_at;
