-- A change that the table's trigger did not see, so that the next loads look again until it is put right.
INSERT INTO changes_by_hand (changed_by, operation) VALUES ('somebody unknown', 'CHANGE');
