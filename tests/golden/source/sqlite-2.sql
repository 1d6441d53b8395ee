-- What leads from state 1 to state 2.
INSERT INTO "order" (customer, net) VALUES (3, 7);
DELETE FROM "order" WHERE id = 2;
UPDATE customer SET name = 'Ada Lovelace' WHERE id = 1;
CREATE TABLE later (x);
INSERT INTO later VALUES ('new');
