/** Two real servers on one Postgres that are given one name for different things at the same time. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { GOLDEN } from '../engine/golden-model.js';
import { NO_POSTGRES, postgresDatabase } from '../registry/stores.js';
import { spawnServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

test('a name that two replicas are given at once is one model, and one workflow, on both', {
  skip: NO_POSTGRES,
  timeout: 120_000,
}, async (t) => {
  const database = await postgresDatabase();
  t.after(() => database.drop());
  const flags = ['--registry', database.place, '--log-level', 'fatal', '--allow-path', GOLDEN, '--allow-path', DEMO];
  const servers = await Promise.all([spawnServer(flags), spawnServer(flags)]);
  t.after(() => Promise.all(servers.map((server) => server.stop())));
  const ask = async (server: number, method: string, path: string, body?: object) => {
    const init = body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    const answer = await fetch(servers[server]!.url + path, { method, ...init });
    return { status: answer.status, text: await answer.text() };
  };
  /** Waits until both tell of a path what is asked for, and nothing else. */
  const agree = async (path: string, told: RegExp): Promise<void> => {
    for (;;) {
      const answers = await Promise.all([ask(0, 'GET', path), ask(1, 'GET', path)]);
      if (answers.every(({ status, text }) => status === 200 && told.test(text))) return;
      await delay(20);
    }
  };
  const winnerOf = (answers: readonly { readonly status: number; readonly text: string }[]): number => {
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 409], JSON.stringify(answers));
    const refused = answers.find(({ status }) => status === 409)!;
    assert.match(refused.text, /registered (with another server meanwhile|already)/);
    return answers.findIndex(({ status }) => status === 200);
  };

  const models = ['llama', 'qwen2'];
  for (let round = 0; round < 3; round += 1) {
    const name = `dup${round}`;
    const asked = models.map((model, i) => ask(i, 'POST', `/models?url=${GOLDEN}models/${model}&model_name=${name}`));
    const winner = winnerOf(await Promise.all(asked));
    await agree(`/models/${name}`, new RegExp(`models/${models[winner]}","status":"Healthy"`));
  }

  const adapters = ['pirate', 'french'];
  const asked = adapters.map((adapter, i) => {
    const src = path.join(DEMO, 'adapters', adapter);
    const configs = { adapters: { [`${adapter}-of-w`]: { model: 'm', src } } };
    const workflow = { out: ['adapter', `${adapter}-of-w`, 'in'] };
    return ask(i, 'POST', '/workflows', { name: 'w', models: { m: DEMO }, configs, workflow });
  });
  const winner = winnerOf(await Promise.all(asked));
  await agree('/workflows/w', new RegExp(`${adapters[winner]}-of-w`));
  const inputs = { inputs: 'Hello', parameters: { max_new_tokens: 4 } };
  const texts = await Promise.all(
    [0, 1].map(async (server) => (await ask(server, 'POST', '/predictions/w', inputs)).text),
  );
  assert.equal(texts[0], texts[1]);
});
