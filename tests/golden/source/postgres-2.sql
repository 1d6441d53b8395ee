-- What leads from state 1 to state 2.
INSERT INTO app."order" (customer, net) VALUES (3, 7);
DELETE FROM app."order" WHERE id = 2;
UPDATE app.customer SET name = 'Ada Lovelace' WHERE id = 1;
ALTER TABLE app.event ADD COLUMN who int DEFAULT 3 REFERENCES app.customer;
SELECT lo_put(424242, 6, '\xcafe');
SELECT nextval('app.never_called');
