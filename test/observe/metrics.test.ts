import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { createLogger } from '../../server/observe/logger.js';
import { measuredInference } from '../../server/observe/measured-inference.js';
import { Metrics } from '../../server/observe/metrics.js';
import { lines, postJson, serve, until } from '../rest/http.js';
import { memoryServices } from '../rest/memory-services.js';

const STATS = {
  runningRows: 3,
  waitingRows: 1,
  prefillSteps: 2,
  decodeSteps: 10,
  prefillTokens: 64,
  decodeTokens: 30,
  kvBytes: 4096,
  cachedTokens: 3,
  preemptions: 2,
  guessesAccepted: 7,
  guessesRejected: 5,
  prefixBytes: 4096,
  adaptersLoaded: 2,
  adapterBytes: 2048,
  runMs: 1500,
  overheadMs: 250,
};

function measured() {
  const services = memoryServices();
  const metrics = new Metrics({
    models: () => [{ info: { name: 'base' }, engine: { stats: () => STATS, alive: true } }],
    adapters: services.adapters,
  });
  return {
    metrics,
    services: { ...services, inference: measuredInference(services.inference, services.models, metrics) },
  };
}

const value = (text: string, name: string): number => {
  const line = text.split('\n').find((entry) => entry.startsWith(`${name} `));
  assert.ok(line, `${name} is there`);
  return Number(line.slice(name.length + 1));
};

test('a scrape shows what the engine says at that moment, again and again', async () => {
  const { metrics } = measured();
  for (let scrape = 0; scrape < 2; scrape++) {
    const text = await metrics.text();
    assert.equal(value(text, 'loramux_running_rows{model="base"}'), 3);
    assert.equal(value(text, 'loramux_waiting_rows{model="base"}'), 1);
    assert.equal(value(text, 'loramux_steps_total{model="base",kind="decode"}'), 10);
    assert.equal(value(text, 'loramux_step_seconds_total{model="base",part="run"}'), 1.5);
    assert.equal(value(text, 'loramux_adapters{model="base",state="ready"}'), 2);
    assert.equal(value(text, 'loramux_engine_up{model="base"}'), 1);
  }
});

test('scrapes that come together are one, of what is there when the last of them has come', async () => {
  let reads = 0;
  const engine = { stats: () => ({ ...STATS, runningRows: ++reads }), alive: true };
  const { adapters } = memoryServices();
  const metrics = new Metrics({ models: () => [{ info: { name: 'base' }, engine }], adapters });
  await metrics.text();
  const once = reads;
  const texts = Array.from({ length: 100 }, () => metrics.text());
  metrics.generatedTokens.inc({ model: 'base' }, 5);
  const [first, ...others] = await Promise.all(texts);
  assert.equal(value(first!, 'loramux_generated_tokens_total{model="base"}'), 5);
  for (const text of others) assert.equal(text, first);
  assert.equal(reads, 2 * once);
  await metrics.text();
  assert.equal(reads, 3 * once);
});

test('requests and tokens are counted once, whole or streamed', async (t) => {
  const { metrics, services } = measured();
  const url = await serve(t, services, { metrics });
  const ask = { inputs: ['x', 'y'], parameters: { max_new_tokens: 4 } };
  await (await postJson(`${url}/invocations`, ask)).text();
  await (await postJson(`${url}/predictions/base`, { ...ask, stream: true })).text();
  await (await postJson(`${url}/predictions/nope`, ask)).text();
  const answer = await fetch(`${url}/metrics`);
  assert.match(answer.headers.get('content-type')!, /^text\/plain/);
  const text = await answer.text();
  assert.equal(value(text, 'loramux_generated_tokens_total{model="base"}'), 16);
  assert.equal(value(text, 'loramux_prompt_tokens_total{model="base"}'), 4);
  assert.equal(value(text, 'loramux_lookup_tokens_total{model="base",outcome="accepted"}'), 7);
  assert.equal(value(text, 'loramux_lookup_tokens_total{model="base",outcome="rejected"}'), 5);
  assert.equal(value(text, 'loramux_time_to_first_token_seconds_count{model="base"}'), 4);
  assert.equal(value(text, 'loramux_inter_token_seconds_sum{model="base"}'), 4 * (0.003 / 3));
  assert.equal(value(text, 'loramux_requests_total{route="/invocations",method="POST",status="200"}'), 1);
  assert.equal(value(text, 'loramux_requests_total{route="/predictions/:model",method="POST",status="404"}'), 1);
});

test('a path that cannot be decoded is counted and logged as every refused request', async (t) => {
  const { metrics, services } = measured();
  const written: string[] = [];
  const logger = createLogger('info', { write: (line) => written.push(line) });
  const url = await serve(t, services, { metrics, logger });
  assert.equal((await fetch(`${url}/adapters/%ff`)).status, 400);
  await until(() => written.length > 0);
  const [line] = lines(written.join(''));
  assert.deepEqual([line!.path, line!.status], ['/adapters/%ff', 400]);
  assert.equal(value(await metrics.text(), 'loramux_requests_total{route="none",method="GET",status="400"}'), 1);
});

test('a client that leaves in the middle of a stream is counted and logged as such', async (t) => {
  const { metrics, services } = measured();
  const written: string[] = [];
  const logger = createLogger('info', { write: (line) => written.push(line) });
  const url = await serve(t, services, { metrics, logger });
  const request = http.request(`${url}/invocations`, { method: 'POST', headers: { 'x-request-id': 'left' } });
  request.on('error', () => {});
  request.end(JSON.stringify({ inputs: 'SLOW@1', stream: true, parameters: { max_new_tokens: 1e6 } }));
  const response = await new Promise<http.IncomingMessage>((resolve) => request.on('response', resolve));
  await new Promise((resolve) => response.once('data', resolve));
  request.destroy();
  await until(() => written.length > 0);
  const [line] = lines(written.join(''));
  assert.deepEqual([line!.requestId, line!.status], ['left', 499]);
  const text = await metrics.text();
  assert.equal(value(text, 'loramux_requests_total{route="/invocations",method="POST",status="499"}'), 1);
});

test('each line of a request has its id, and no line has a query, a body or a credential', async (t) => {
  const written: string[] = [];
  const logger = createLogger('debug', { write: (line) => written.push(line) });
  const url = await serve(t, memoryServices(), { logger });
  const headers = { 'x-request-id': 'r-1', authorization: 'Bearer hidden-token' };
  await (await postJson(`${url}/invocations?adapter=one`, { inputs: 'private text' }, headers)).text();
  await (await postJson(`${url}/invocations`, { inputs: 'RAISE@0' }, { 'x-request-id': 'r-2' })).text();
  logger.info({ headers }, 'shown');
  await until(() => written.filter((line) => line.includes('"path"')).length === 2);
  const text = written.join('');
  const all = lines(text);
  const access = all.filter((line) => line.path === '/invocations');
  assert.deepEqual(
    access.map((line) => [line.requestId, line.status, line.level]),
    [
      ['r-1', 200, 'info'],
      ['r-2', 503, 'info'],
    ],
  );
  assert.ok(all.some((line) => line.requestId === 'r-2' && line.level === 'error' && line.reason === 'ENGINE_FAILED'));
  assert.doesNotMatch(text, /private text|adapter=one|hidden-token/);
});

test('the line of a request that was refused, or failed on its way, says why', async (t) => {
  const written: string[] = [];
  const logger = createLogger('info', { write: (line) => written.push(line) });
  const url = await serve(t, memoryServices(), { logger });
  const ask = { inputs: 'x', parameters: { max_new_tokens: 4 } };
  for (const [id, body] of [
    ['fine', ask],
    ['refused', { ...ask, adapters: 'none' }],
    ['broken', { ...ask, inputs: 'RAISE@2', stream: true }],
  ] as const) {
    await (await postJson(`${url}/invocations`, body, { 'x-request-id': id })).text();
  }
  const access = () => lines(written.join('')).filter((line) => line.path === '/invocations');
  await until(() => access().length === 3);
  assert.deepEqual(
    access().map(({ requestId, status, reason }) => [requestId, status, reason]),
    [
      ['fine', 200, undefined],
      ['refused', 424, 'ADAPTER_NOT_REGISTERED'],
      ['broken', 200, 'ENGINE_FAILED'],
    ],
  );
});
