-- After a load that put everything right.
DELETE FROM changes_by_hand;
