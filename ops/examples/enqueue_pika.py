#!/usr/bin/env python3
"""Asks for a migration and waits for its outcome: python3 enqueue_pika.py AMQP_URL DATABASE (needs pika)."""
import json, sys, uuid
import pika

broker = pika.BlockingConnection(pika.URLParameters(sys.argv[1])).channel()
broker.confirm_delivery()
answers = broker.queue_declare("", exclusive=True).method.queue
job = {"id": str(uuid.uuid4()), "kind": "migrate", "target": sys.argv[2], "spec": {"to": "head"}}
wish = pika.BasicProperties(content_type="application/json", delivery_mode=2, reply_to=answers, correlation_id=job["id"])
broker.basic_publish("holdfast.jobs", "default.migrate", json.dumps(job), wish, mandatory=True)

for _, _, body in broker.consume(answers, auto_ack=True, inactivity_timeout=120):
    if body is None:
        sys.exit("no answer within two minutes; ask again with the same id, or look: migrate-worker show " + job["id"])
    task = json.loads(body)["data"]
    print(task["state"], task["report"]["result"]["message"])
    sys.exit(0 if task["state"] == "succeeded" else 1)
