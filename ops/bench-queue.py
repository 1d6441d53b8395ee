#!/usr/bin/env python3
"""Times how fast durable submissions by RabbitMQ are taken in, by Holdfast and by Celery: called by ops/bench.

bench-queue.py WORKER [NUMBER]: WORKER is migrate-worker, HOLDFAST_TEST_AMQP the broker; works in the current folder.

A message is accepted when the broker has confirmed it, and recorded when it stands in a SQL database: Holdfast's record
(the task waits for a time to come, so that nothing but taking in is measured), Celery's result backend (a task that does
nothing). Both databases are SQLite files, both workers run on the same two cores as the sender. First as fast as one
sender is (throughput), then 100 a second (latency).
"""
import datetime, json, os, pathlib, sqlite3, subprocess, sys, time, uuid

import pika

worker, number = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3000
url = os.environ["HOLDFAST_TEST_AMQP"]
RATE = 100


class Sender:
    """Publishes durable messages, each confirmed; knows when each was."""

    def __init__(self):
        self.channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
        self.channel.confirm_delivery()
        self.accepted = {}

    def send(self, exchange, key, body, headers, job):
        properties = pika.BasicProperties(content_type="application/json", content_encoding="utf-8", delivery_mode=2,
                                          headers=headers, correlation_id=job)
        self.channel.basic_publish(exchange, key, body, properties, mandatory=True)
        self.accepted[job] = time.time()


def holdfast(sender, job):
    wish = {"id": job, "kind": "verify", "target": "shop", "run_at": "2099-01-01T00:00:00Z"}
    sender.send("holdfast.jobs", "default.verify", json.dumps(wish), None, job)


def celery(sender, job):
    headers = {"lang": "py", "task": "noop", "id": job, "root_id": job, "parent_id": None, "group": None, "retries": 0,
               "timelimit": [None, None], "eta": None, "expires": None, "argsrepr": "()", "kwargsrepr": "{}", "origin": "bench"}
    body = json.dumps([[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    sender.send("", "celery", body, headers, job)


def recorded_by_holdfast():
    with sqlite3.connect("file:holdfast-state.db?mode=ro", uri=True) as record:
        return {job: at / 1e6 for job, at in record.execute("SELECT job_id, created_at FROM task_log")}


def recorded_by_celery():
    def seconds(text):
        return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.timezone.utc).timestamp()

    with sqlite3.connect("file:celery.db?mode=ro", uri=True) as results:
        return {job: seconds(at) for job, at in results.execute("SELECT task_id, date_done FROM celery_taskmeta")}


def until(what, holds, seconds=300):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within {seconds} s")
        time.sleep(0.1)


def there(queue):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        connection.channel().queue_declare(queue, passive=True)
        return True
    except pika.exceptions.ChannelClosedByBroker:
        return False
    finally:
        if connection.is_open:
            connection.close()


def measured(name, command, queue, send, recorded):
    """Submissions a second, and the 50th and 99th percentile of accepted to recorded in ms at the lower rate."""
    log = open(f"{name}.log", "wb")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(f"{name} is ready", lambda: there(queue), 60)
        warm = Sender()
        first = str(uuid.uuid4())
        send(warm, first)
        until(f"{name} has the first", lambda: pathlib.Path("holdfast-state.db" if send is holdfast else "celery.db").exists()
              and first in recorded())
        sender, begun = Sender(), time.time()
        for _ in range(number):
            send(sender, str(uuid.uuid4()))
        until(f"{name} has all", lambda: sender.accepted.keys() <= recorded().keys())
        found = recorded()
        took = max(found[job] for job in sender.accepted) - begun
        paced, next_at = Sender(), time.monotonic()
        for _ in range(10 * RATE):
            send(paced, str(uuid.uuid4()))
            next_at += 1 / RATE
            time.sleep(max(0, next_at - time.monotonic()))
        until(f"{name} has all", lambda: paced.accepted.keys() <= recorded().keys())
        found = recorded()
        waits = sorted((found[job] - at) * 1000 for job, at in paced.accepted.items())
        return number / took, waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    finally:
        process.terminate()
        process.wait(30)


pathlib.Path("holdfast.toml").write_text(f'[queue]\nurl = "{url}"\n\n[database.shop]\nurl = "sqlite:shop.db"\n')
os.chmod("holdfast.toml", 0o600)
pathlib.Path("noop.py").write_text(f'''
from celery import Celery
app = Celery(broker="{url}", backend="db+sqlite:///celery.db")
app.conf.result_extended = False
app.conf.database_short_lived_sessions = False

@app.task(name="noop")
def noop():
    pass
''')
ours = measured("holdfast", [worker, "run"], "holdfast.jobs.default", holdfast, recorded_by_holdfast)
theirs = measured("celery", [sys.executable, "-m", "celery", "-A", "noop", "worker", "--concurrency", "2", "--loglevel",
                             "ERROR", "--without-gossip", "--without-mingle"], "celery", celery, recorded_by_celery)
print(f"\nTaking submissions in ({number} as fast as one sender is, then {RATE} a second for 10 s)")
print(f"{'who':24}{'a second':>10}{'x Celery':>10}{'p50 ms':>10}{'p99 ms':>10}")
for name, (rate, middle, last) in {"holdfast": ours, "celery, no-op": theirs}.items():
    print(f"{name:24}{rate:10.0f}{rate / theirs[0]:10.2f}{middle:10.1f}{last:10.1f}")
