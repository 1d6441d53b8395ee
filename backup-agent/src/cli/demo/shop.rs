//! The demo's application: a shop that keeps its orders in SQLite.

use crate::error::Error;
use rusqlite::{Connection, OpenFlags, params};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const CUSTOMERS: u32 = 2_000;
const ORDERS: u32 = 100_000;

/// The shop, connected to its database.
pub struct Shop {
    connection: Connection,
    path: PathBuf,
}

/// A customer who orders until told to stop.
pub struct Selling {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<rusqlite::Result<u64>>,
}

impl Shop {
    /// Makes the sample database.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let connection = Connection::open(path).map_err(failed)?;
        let mut shop = Shop { connection, path: path.to_owned() };
        shop.fill().map_err(failed)?;
        Ok(shop)
    }

    fn fill(&mut self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "journal_mode", "wal")?;
        self.connection.busy_timeout(Duration::from_secs(10))?;
        let transaction = self.connection.transaction()?;
        transaction.execute_batch(
            "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE);
             CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers(id),
                 day INTEGER NOT NULL, status TEXT NOT NULL DEFAULT 'paid', total_cents INTEGER NOT NULL, note TEXT);
             CREATE INDEX orders_by_day ON orders(day);",
        )?;
        {
            let mut add = transaction.prepare("INSERT INTO customers (name, email) VALUES (?1, ?2)")?;
            for n in 0..CUSTOMERS {
                add.execute(params![format!("Customer {n}"), format!("customer{n}@example.org")])?;
            }
        }
        insert_orders(&transaction, 0, ORDERS)?;
        transaction.commit()
    }

    /// Number of customers.
    pub fn customers(&self) -> Result<u64, Error> {
        count(&self.connection, "customers")
    }

    /// Number of orders.
    pub fn orders(&self) -> Result<u64, Error> {
        count(&self.connection, "orders")
    }

    /// Takes so many orders at once.
    pub fn sell(&self, orders: u32) -> Result<(), Error> {
        insert_orders(&self.connection, ORDERS, orders).map_err(failed)
    }

    /// Lets a customer order, from a connection of its own, until stopped.
    pub fn keep_selling(&self) -> Result<Selling, Error> {
        let connection = Connection::open(&self.path).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut sold = 0;
            while sold == 0 || !told.load(Ordering::Relaxed) {
                insert_orders(&connection, 2 * ORDERS, 1)?;
                sold += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(sold)
        });
        Ok(Selling { stop, thread })
    }

    /// What the demo is about.
    pub fn lose_everything(&self) -> Result<(), Error> {
        self.connection.execute("DELETE FROM orders", []).map(|_| ()).map_err(failed)
    }

    /// Number of orders in another database of the same shape.
    pub fn count_orders(path: &Path) -> Result<u64, Error> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        count(&connection, "orders")
    }
}

impl Selling {
    /// Ends it and returns how many orders were taken.
    pub fn stop(self) -> Result<u64, Error> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| Error::failed("the demo's customer stopped ordering"))?.map_err(failed)
    }
}

fn insert_orders(connection: &Connection, from: u32, number: u32) -> rusqlite::Result<()> {
    let mut add =
        connection.prepare("INSERT INTO orders (customer_id, day, total_cents, note) VALUES (?1, ?2, ?3, ?4)")?;
    for n in from..from + number {
        let customer = 1 + n.wrapping_mul(2_654_435_761) % CUSTOMERS;
        add.execute(params![
            customer,
            n / 100,
            n.wrapping_mul(7919) % 100_000,
            format!("parcel {n}, leave it with the neighbour")
        ])?;
    }
    Ok(())
}

fn count(connection: &Connection, table: &str) -> Result<u64, Error> {
    let counted = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
    counted.map(i64::unsigned_abs).map_err(failed)
}

fn failed(error: rusqlite::Error) -> Error {
    Error::failed(format!("the demo's database: {error}"))
}
