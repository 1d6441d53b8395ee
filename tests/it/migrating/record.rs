//! The record of tasks after its process ended at a bad moment.

use super::{Shop, orders};
use std::io::{Seek, SeekFrom, Write};

#[test]
fn a_record_whose_process_ended_while_its_journal_was_moved_into_it_is_whole() {
    let file = orders(3);
    let shop = Shop::sql(&file.url(), &[("1_more.sql", "CREATE TABLE more (x);")]);
    shop.apply(&[], "succeeded");
    let path = shop.file("holdfast-state.db");
    let record = rusqlite::Connection::open(&path).unwrap();
    record.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    record.execute_batch("CREATE TABLE rest (x); INSERT INTO rest VALUES (zeroblob(200000)); DROP TABLE rest").unwrap();
    let pages: u32 = record.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    // The first page is moved first, and says already how many there will be.
    let mut main = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    assert!(main.metadata().unwrap().len() < u64::from(pages) * 4096, "the journal holds more than the file");
    main.seek(SeekFrom::Start(28)).and_then(|_| main.write_all(&pages.to_be_bytes())).unwrap();
    drop(main);
    assert_eq!(shop.agent.json(&["history", "shop"])[0]["state"], "succeeded");
    shop.add("2_more.sql", "CREATE TABLE even_more (x);");
    shop.apply(&[], "succeeded");
}
