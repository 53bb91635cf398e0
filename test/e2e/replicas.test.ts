/** Two real servers on one Postgres. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { NO_POSTGRES, postgresDatabase } from '../registry/stores.js';
import { spawnServer } from '../rest/served.js';

test('two replicas converge; one killed in the middle loses nothing it acknowledged', {
  skip: NO_POSTGRES,
  timeout: 120_000,
}, async (t) => {
  const database = await postgresDatabase();
  t.after(() => database.drop());
  const flags = ['--registry', database.place, '--log-level', 'fatal'];
  const [one, two] = await Promise.all([spawnServer(flags), spawnServer(flags)]);
  t.after(() => Promise.all([one.stop(), two.stop()]));
  const ask = async (url: string, method: string, path: string) => {
    const answer = await fetch(url + path, { method });
    return [answer.status, (await answer.json()) as Record<string, unknown>] as const;
  };
  /** Milliseconds until the second replica tells the same of a name as the first. */
  const converged = async (name: string): Promise<number> => {
    const started = performance.now();
    for (;;) {
      const [a, b] = await Promise.all([one, two].map(({ url }) => ask(url, 'GET', `/adapters/${name}?verbose=true`)));
      const of = ([status, body]: typeof a) => [status, body!.src, body!.digest, body!.revision];
      if (JSON.stringify(of(a!)) === JSON.stringify(of(b!))) return performance.now() - started;
      await delay(5);
    }
  };
  const times: number[] = [];
  assert.equal((await ask(one.url, 'POST', '/adapters?name=a&src=adapters/pirate'))[0], 200);
  times.push(await converged('a'));
  assert.equal((await ask(two.url, 'POST', '/adapters/a/update?src=adapters/french'))[0], 200);
  times.push(await converged('a'));
  assert.equal((await ask(one.url, 'DELETE', '/adapters/a'))[0], 200);
  times.push(await converged('a'));
  const wanted = await Promise.all([one, two].map(({ url }) => ask(url, 'POST', '/adapters?name=b&src=adapters/json')));
  assert.deepEqual(wanted.map(([status]) => status).sort(), [200, 409]);
  times.push(await converged('b'));
  t.diagnostic(`converged after ${times.map((ms) => `${ms.toFixed(0)} ms`).join(', ')}`);
  const acknowledged: string[] = [];
  const writing = (async () => {
    for (let i = 0; ; i += 1) {
      const path = `/adapters?name=k${i}&src=adapters/pirate&preload=false`;
      const [status] = await ask(one.url, 'POST', path).catch(() => [0] as const);
      if (status !== 200) return;
      acknowledged.push(`k${i}`);
    }
  })();
  while (acknowledged.length < 20) await delay(5);
  await one.kill();
  await writing;
  for (const name of acknowledged) {
    while ((await ask(two.url, 'GET', `/adapters/${name}`))[0] !== 200) await delay(20);
  }
  assert.equal((await ask(two.url, 'POST', '/adapters?name=after&src=adapters/pirate'))[0], 200);
});
