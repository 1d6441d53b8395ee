-- State 1 of the SQLite database in the golden repositories.
PRAGMA page_size = 512;
PRAGMA user_version = 42;
PRAGMA application_id = 1213155410;
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, note BLOB);
CREATE TABLE "order" (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    customer INTEGER NOT NULL REFERENCES customer (id),
    net INTEGER NOT NULL,
    gross INTEGER GENERATED ALWAYS AS (net * 119 / 100) STORED
);
CREATE TABLE setting ("key" TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE INDEX order_customer ON "order" (customer);
CREATE VIEW turnover AS SELECT customer, sum(gross) AS gross FROM "order" GROUP BY customer;
INSERT INTO customer VALUES (1, 'Ada', x'00ff'), (2, 'it''s "quoted"', NULL), (3, 'line
break	and tab \N', zeroblob(3)), (-7, '日本語 🐘', 1.5);
INSERT INTO "order" (customer, net) VALUES (1, 100), (2, 250), (1, 999);
INSERT INTO setting VALUES ('pi', 3.141592653589793), ('none', NULL), ('blob', x'5c2e'), ('big', 9223372036854775807);
-- Free pages, enough for several chunks, so that state 2 shares some with state 1.
CREATE TABLE gone (b BLOB);
INSERT INTO gone VALUES (zeroblob(150000));
DROP TABLE gone;
