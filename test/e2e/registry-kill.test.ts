/** The real server, killed at random moments while names change: what was acknowledged is there, nothing is half there. */
import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { spawnServer } from '../rest/served.js';

const ROUNDS = 2;
const CLIENTS = 3;
const NAMES = 4;
const SOURCES = ['adapters/pirate', 'adapters/french', 'adapters/json'];

/** What a name is, as a text that is the same for the same; undefined = not registered. */
type State = string | undefined;

const adapterState = (src: string, n: string, pin: boolean): State => `adapter ${src} n=${n} pin=${pin}`;
const aliasState = (adapter: string, share: number): State => `alias of ${adapter} by ${share}`;

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
      while (!killed) {
        const request = randomInt(4) === 0 ? aliasChange : adapterChange;
        const kind = request === aliasChange ? 'live' : 'c';
        await change(server.url, `${kind}${client}-${randomInt(NAMES)}`, request, possible, acknowledged);
      }
    });
    while (acknowledged.length < before + 10) await delay(5);
    await delay(randomInt(300));
    killed = true;
    await server.kill();
    await Promise.all(clients);
  }
  assert.ok(acknowledged.length >= 10 * ROUNDS);
});

/** A change and what the name is after it. */
interface Change {
  readonly method: string;
  readonly path: string;
  readonly body?: object;
  readonly after: State;
}

function adapterChange(name: string, now: State): Change {
  const src = SOURCES[randomInt(SOURCES.length)]!;
  const n = String(randomInt(1_000_000));
  const pin = randomInt(3) === 0;
  const after = adapterState(src, n, pin);
  const settings = `src=${src}&n=${n}&pin=${pin}`;
  if (now === undefined) {
    const preload = pin || randomInt(2) === 0;
    return { method: 'POST', path: `/adapters?name=${name}&${settings}&preload=${preload}`, after };
  }
  if (randomInt(3) === 0) return { method: 'DELETE', path: `/adapters/${name}`, after: undefined };
  return { method: 'POST', path: `/adapters/${name}/update?${settings}`, after };
}

function aliasChange(name: string, now: State): Change {
  const path = `/aliases/${name}`;
  if (now !== undefined && randomInt(3) === 0) return { method: 'DELETE', path, after: undefined };
  const adapter = basename(SOURCES[randomInt(SOURCES.length)]!);
  const share = 1 + randomInt(1_000_000);
  return { method: 'PUT', path, body: { targets: [{ adapter, share }] }, after: aliasState(adapter, share) };
}

async function change(
  url: string,
  name: string,
  next: (name: string, now: State) => Change,
  possible: Map<string, State[]>,
  acknowledged: string[],
): Promise<void> {
  const [now] = possible.get(name) ?? [undefined];
  const id = randomUUID();
  const { method, path, body, after } = next(name, now);
  possible.set(name, [now, after]);
  try {
    const headers = { 'x-request-id': id, ...(body && { 'content-type': 'application/json' }) };
    const answer = await fetch(url + path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
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
  readonly pin: boolean;
  readonly digest: string;
  readonly options: { readonly n?: string };
  readonly state: string;
}

interface ShownAlias {
  readonly name: string;
  readonly targets: readonly { readonly adapter: string; readonly share: number }[];
}

async function check(url: string, possible: Map<string, State[]>, acknowledged: readonly string[]): Promise<void> {
  const { adapters } = (await (await fetch(`${url}/adapters?verbose=true`)).json()) as { adapters: Shown[] };
  const digests = new Map(adapters.map(({ name, digest }) => [`adapters/${name}`, digest]));
  const shown = new Map(adapters.map((adapter) => [adapter.name, adapter]));
  const { aliases } = (await (await fetch(`${url}/aliases`)).json()) as { aliases: ShownAlias[] };
  const led = new Map(aliases.map(({ name, targets: [to] }) => [name, aliasState(to!.adapter, to!.share)]));
  for (const [name, states] of possible) {
    const found = shown.get(name);
    const state = found ? adapterState(found.src, found.options.n!, found.pin) : led.get(name);
    assert.ok(states.includes(state), `${name} is ${state}, not one of ${states.join(' | ')}`);
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
