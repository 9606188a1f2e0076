// bullmq.js PORT COUNT: tasks/s added 64 at a time and taken by one worker, on the Redis at PORT.
// Needs: npm install bullmq, and NODE_PATH where that is not found by itself.
const { Queue, Worker } = require('bullmq');

const [port, count] = process.argv.slice(2).map(Number);
const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null };
const batch = 64;

async function main() {
    const queue = new Queue('tasks', { connection });
    await queue.waitUntilReady();
    let taken = 0;
    let finished;
    const all = new Promise((resolve) => { finished = resolve; });
    const worker = new Worker('tasks', async (job) => job.data, { connection, concurrency: batch });
    worker.on('completed', () => { if (++taken === count) finished(); });
    await worker.waitUntilReady();
    const begun = process.hrtime.bigint();
    const jobs = Array.from({ length: batch }, () => ({ name: 'echo', data: 'x'.repeat(64) }));
    for (let sent = 0; sent < count; sent += batch) await queue.addBulk(jobs);
    await all;
    console.log(count / (Number(process.hrtime.bigint() - begun) / 1e9));
    process.exit(0);
}

main().catch((error) => { console.error(String(error)); process.exit(1); });
