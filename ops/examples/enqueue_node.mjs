// Asks for a migration and waits for its outcome: node enqueue_node.mjs AMQP_URL DATABASE (needs amqplib)
import amqp from "amqplib";
import { randomUUID } from "node:crypto";

const connection = await amqp.connect(process.argv[2]);
const broker = await connection.createConfirmChannel();
const { queue: answers } = await broker.assertQueue("", { exclusive: true });
const job = { id: randomUUID(), kind: "migrate", target: process.argv[3], spec: { to: "head" } };
const wish = { contentType: "application/json", persistent: true, mandatory: true, replyTo: answers, correlationId: job.id };
broker.publish("holdfast.jobs", "default.migrate", Buffer.from(JSON.stringify(job)), wish);
await broker.waitForConfirms();

const answer = new Promise((tell) => broker.consume(answers, tell, { noAck: true }));
const late = setTimeout(() => {
  console.error(`no answer within two minutes; ask again with the same id, or look: migrate-worker show ${job.id}`);
  process.exit(1);
}, 120_000);
const { data: task } = JSON.parse((await answer).content);
console.log(task.state, task.report.result.message);
clearTimeout(late);
await connection.close();
process.exitCode = task.state === "succeeded" ? 0 : 1;
