//! Messages of RabbitMQ, plain and Celery's.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests::decoders::message(data));
