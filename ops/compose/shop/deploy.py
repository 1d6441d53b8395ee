"""Asks Holdfast to bring the database to the revision this code needs, and waits for the end: deploy.py, with AMQP_URL."""
import json, os, sys, time, uuid
import pika

REVISION = "0002_customer"
PATIENCE_S = 600

job = {"id": str(uuid.uuid4()), "kind": "migrate", "target": "shop", "spec": {"to": REVISION}, "requested_by": "deploy.py"}


def ask():
    """Sends the wish and returns where the answer comes. The same id is the same job, however often it is sent."""
    channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
    channel.confirm_delivery()
    answers = channel.queue_declare("", exclusive=True).method.queue
    wish = pika.BasicProperties(content_type="application/json", delivery_mode=2, reply_to=answers, correlation_id=job["id"])
    channel.basic_publish("holdfast.jobs", "default.migrate", json.dumps(job), wish, mandatory=True)
    return channel, answers


deadline = time.monotonic() + PATIENCE_S
while True:
    try:
        channel, answers = ask()
        break
    # Broker and worker may be starting still.
    except pika.exceptions.AMQPError as error:
        if time.monotonic() > deadline:
            sys.exit(f"nobody takes jobs in: {error!r}")
        time.sleep(1)

for _, _, body in channel.consume(answers, auto_ack=True, inactivity_timeout=deadline - time.monotonic()):
    if body is None:
        sys.exit(f"no answer within {PATIENCE_S} s: migrate-worker show {job['id']}")
    task = json.loads(body)["data"]
    print(task["state"], task["report"]["result"]["message"], flush=True)
    sys.exit(0 if task["state"] == "succeeded" else 1)
