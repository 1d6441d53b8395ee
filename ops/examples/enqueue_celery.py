#!/usr/bin/env python3
"""Asks for a migration by Celery and waits for its outcome: python3 enqueue_celery.py AMQP_URL DATABASE (needs celery)."""
import sys
from celery import Celery

app = Celery(broker=sys.argv[1], backend="rpc://")
app.conf.broker_transport_options = {"confirm_publish": True}
# Never queue=…: Celery would declare a queue of another form.
job = app.send_task("holdfast.migrate", kwargs={"target": sys.argv[2], "spec": {"to": "head"}},
                    exchange="holdfast.jobs", routing_key="default.migrate")
task = job.get(timeout=120)  # raises Refused, Restored, Failed, Expired or Stuck where it did not succeed
print(task["state"], task["report"]["result"]["message"])
