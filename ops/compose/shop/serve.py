"""The application: an order every two seconds, with DATABASE_URL. `serve.py N` ends after N orders."""
import os, sys, time
import sqlalchemy as sa

engine = sa.create_engine(os.environ["DATABASE_URL"], pool_pre_ping=True)
ORDER = sa.text("INSERT INTO orders (item, customer) VALUES ('bread', 'somebody') RETURNING id")
left = int(sys.argv[1]) if len(sys.argv) > 1 else None

while left is None or left > 0:
    try:
        with engine.begin() as connection:
            print("order", connection.execute(ORDER).scalar_one(), flush=True)
    except sa.exc.OperationalError:
        # While a migration is applied the database is closed.
        print("the database is closed for a moment", flush=True)
    if left is not None:
        left -= 1
    if left != 0:
        time.sleep(2)
