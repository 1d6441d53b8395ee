//! The same over HTTP: a real S3 server that is busy, cuts off, or answers half, once.

use super::*;
use shared::store::s3::S3Store;
use tests::s3::{Disturbance, S3Server};

/// A backup to an S3 server that disturbs its `number`-th request. Returns how many requests there were.
async fn backup_disturbed(server: &S3Server, number: u64, how: Disturbance, source: &TestFile, dump: &str) -> u64 {
    let place = format!("request {number}, {how:?}");
    let settings = server.settings("holdfast", &format!("{how:?}-{number}").to_lowercase());
    let s3 = Arc::new(S3Store::connect(settings).await.unwrap());
    server.disturb(number, how);
    let policy = RetryPolicy { attempt_limit: Duration::from_secs(20), deadline: Duration::from_secs(30), ..AGAIN };
    let outcome = back_up(Arc::new(Retrying::new(s3.clone(), policy)), "a", source).await;
    let requests = server.requests();
    server.disturb(0, how);
    let id = outcome.unwrap_or_else(|error| panic!("{place}: one disturbance is tried again: {error}"));
    let store: Arc<dyn Store> = s3;
    assert_eq!(listed(&store).await.into_iter().collect::<Vec<_>>(), [(id.clone(), true)], "{place}");
    comes_back(&store, &id, dump, &place).await;
    requests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_busy_or_breaks_off_once_does_not_keep_a_backup_from_being_good() {
    let server = S3Server::start();
    server.make_bucket("holdfast");
    let source = small("a", "one");
    let dump = source.dump_text();
    // Each request meets two of the four: one that had no effect, and one that had or answers half.
    let pairs = [[Disturbance::Busy, Disturbance::BusyAfter], [Disturbance::CutOff, Disturbance::HalfAnswer]];
    for number in 1.. {
        let mut most = 0;
        for how in pairs[usize::try_from(number % 2).unwrap()] {
            most = most.max(backup_disturbed(&server, number, how, &source, &dump).await);
        }
        if most < number {
            assert!(number > 10, "only {most} requests");
            break;
        }
    }
}
