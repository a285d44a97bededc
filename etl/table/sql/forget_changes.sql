-- After a load that put everything right: the notes that it has read, if its batch has every company that was ever loaded.
DELETE FROM changes_by_hand
WHERE (changed_by, operation, changed_at) IN (
    SELECT * FROM unnest(%(users)s::text[], %(operations)s::text[], %(times)s::timestamptz[])
) AND NOT EXISTS (SELECT FROM loaded_companies WHERE company_name <> ALL (%(companies)s::text[]));
