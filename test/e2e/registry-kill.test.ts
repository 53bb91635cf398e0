/** The real server, killed at random moments while names change: what was acknowledged is there, nothing is half there. */
import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { spawnServer } from '../rest/served.js';

const ROUNDS = 2;
const CLIENTS = 3;
const NAMES = 4;
const SOURCES = ['adapters/pirate', 'adapters/french', 'adapters/json'];

/** What a name is; undefined = not registered. */
type State = { readonly src: string; readonly n: string } | undefined;

test('kill -9 during changes loses nothing acknowledged and leaves nothing half done', {
  timeout: 180_000,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'loramux-kill-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  /** The states that each name may have: the acknowledged one, and that of a change without an answer. */
  const possible = new Map<string, State[]>();
  const acknowledged: string[] = [];
  for (let round = 0; round <= ROUNDS; round += 1) {
    const server = await spawnServer(['--state-dir', dir, '--log-level', 'error']);
    await check(server.url, possible, acknowledged);
    if (round === ROUNDS) {
      t.diagnostic(`${acknowledged.length} changes were acknowledged`);
      await server.stop();
      break;
    }
    const before = acknowledged.length;
    let killed = false;
    const clients = Array.from({ length: CLIENTS }, async (_, client) => {
      while (!killed) await change(server.url, `c${client}-${randomInt(NAMES)}`, possible, acknowledged);
    });
    while (acknowledged.length < before + 10) await delay(5);
    await delay(randomInt(300));
    killed = true;
    await server.kill();
    await Promise.all(clients);
  }
  assert.ok(acknowledged.length >= 10 * ROUNDS);
});

async function change(url: string, name: string, possible: Map<string, State[]>, acknowledged: string[]) {
  const [now] = possible.get(name) ?? [undefined];
  const src = SOURCES[randomInt(SOURCES.length)]!;
  const n = String(randomInt(1_000_000));
  const id = randomUUID();
  const [method, path, after]: [string, string, State] =
    now === undefined
      ? ['POST', `/adapters?name=${name}&src=${src}&n=${n}&preload=${randomInt(2) === 0}`, { src, n }]
      : randomInt(3) === 0
        ? ['DELETE', `/adapters/${name}`, undefined]
        : ['POST', `/adapters/${name}/update?src=${src}&n=${n}`, { src, n }];
  possible.set(name, [now, after]);
  try {
    const answer = await fetch(url + path, { method, headers: { 'x-request-id': id } });
    assert.equal(answer.status, 200, `${method} ${path}: ${await answer.text()}`);
    possible.set(name, [after]);
    acknowledged.push(id);
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
  }
}

interface Shown {
  readonly name: string;
  readonly src: string;
  readonly digest: string;
  readonly options: { readonly n?: string };
  readonly state: string;
}

async function check(url: string, possible: Map<string, State[]>, acknowledged: readonly string[]): Promise<void> {
  const { adapters } = (await (await fetch(`${url}/adapters?verbose=true`)).json()) as { adapters: Shown[] };
  const digests = new Map(adapters.map(({ name, digest }) => [`adapters/${name}`, digest]));
  const shown = new Map(adapters.map((adapter) => [adapter.name, adapter]));
  for (const [name, states] of possible) {
    const found = shown.get(name);
    const state: State = found && { src: found.src, n: found.options.n! };
    assert.ok(
      states.some((one) => one?.src === state?.src && one?.n === state?.n),
      `${name} is ${JSON.stringify(state)}, not one of ${JSON.stringify(states)}`,
    );
    possible.set(name, [state]);
    if (found === undefined) continue;
    assert.notEqual(found.state, 'failed');
    if (found.digest !== '') assert.equal(found.digest, digests.get(found.src), 'the digest is that of the source');
  }
  const logged = new Set<string>();
  for (let token = ''; ; ) {
    const page = (await (await fetch(`${url}/adapter-events?next_page_token=${token}`)).json()) as {
      events: { request_id: string }[];
      nextPageToken?: string;
    };
    for (const event of page.events) logged.add(event.request_id);
    if (page.nextPageToken === undefined) break;
    token = page.nextPageToken;
  }
  assert.deepEqual(
    acknowledged.filter((id) => !logged.has(id)),
    [],
    'every acknowledged change is in the log',
  );
}
