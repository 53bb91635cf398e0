/**
 * The real server, killed at random moments while names change: what was acknowledged is there, nothing is half there.
 * What each client does, and how long a round lasts, is drawn from a seed; a failing run tells it, and
 * LORAMUX_KILL_SEED=... runs it again.
 */
import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { spawnServer } from '../rest/served.js';

const ROUNDS = Number(process.env.LORAMUX_KILL_ROUNDS ?? 2);
const SEED = Number(process.env.LORAMUX_KILL_SEED ?? randomInt(2 ** 31));
/** Changes that are acknowledged in a round before the server may be killed. */
const CHANGES = 10;
const CLIENTS = 3;
const NAMES = 4;
const SOURCES = ['adapters/pirate', 'adapters/french', 'adapters/json'];
const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

/** What a name is, as a text that is the same for the same; undefined = not registered. */
type State = string | undefined;

const adapterState = (src: string, n: string, pin: boolean): State => `adapter ${src} n=${n} pin=${pin}`;
const aliasState = (adapter: string, share: number): State => `alias of ${adapter} by ${share}`;
const workflowState = (version: string, src: string): State => `workflow ${version} of ${src}`;
const MODEL_STATE: State = 'model';

/** Whole numbers below a bound; equal seeds give equal sequences. */
type Draw = (below: number) => number;

function drawing(seed: number): Draw {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x9e37_79b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0_aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a_2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) % below;
  };
}

test('kill -9 during changes loses nothing acknowledged and leaves nothing half done', {
  timeout: 180_000,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'loramux-kill-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  /** The states that each name may have: the acknowledged one, and that of a change without an answer. */
  const possible = new Map<string, State[]>();
  /** Names of the kinds that were changed, so that a run that left one out is told. */
  const kinds = new Set<string>();
  const acknowledged: Acknowledged[] = [];
  t.diagnostic(`LORAMUX_KILL_SEED=${SEED}`);
  try {
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
        const draw = drawing(SEED + 1009 * round + client);
        while (!killed) {
          const [kind, next] = KINDS[draw(KINDS.length)]!;
          const done = await change(server.url, `${kind}${client}-${draw(NAMES)}`, next, draw, possible, acknowledged);
          if (done) kinds.add(next.name);
        }
      });
      const failed = Promise.all(clients);
      await Promise.race([failed, enough(() => acknowledged.length >= before + CHANGES && kinds.size === REQUESTS)]);
      await delay(drawing(SEED + 1009 * round - 1)(300));
      killed = true;
      await server.kill();
      await failed;
    }
  } catch (error) {
    const how = `LORAMUX_KILL_SEED=${SEED} npm test -- test/e2e/registry-kill.test.ts`;
    throw new Error(`draws the same changes again: ${how}\n${(error as Error).message}`, { cause: error });
  }
  assert.ok(acknowledged.length >= CHANGES * ROUNDS);
});

async function enough(done: () => boolean): Promise<void> {
  while (!done()) await delay(5);
}

/** A change and what the name is after it. */
interface Change {
  readonly method: string;
  readonly path: string;
  readonly body?: object;
  readonly after: State;
}

type Next = (name: string, now: State, draw: Draw) => Change;

const adapterChange: Next = (name, now, draw) => {
  const src = SOURCES[draw(SOURCES.length)]!;
  const n = String(draw(1_000_000));
  const pin = draw(3) === 0;
  const after = adapterState(src, n, pin);
  const settings = `src=${src}&n=${n}&pin=${pin}`;
  if (now === undefined) {
    const preload = pin || draw(2) === 0;
    return { method: 'POST', path: `/adapters?name=${name}&${settings}&preload=${preload}`, after };
  }
  if (draw(3) === 0) return { method: 'DELETE', path: `/adapters/${name}`, after: undefined };
  return { method: 'POST', path: `/adapters/${name}/update?${settings}`, after };
};

const aliasChange: Next = (name, now, draw) => {
  const path = `/aliases/${name}`;
  if (now !== undefined && draw(3) === 0) return { method: 'DELETE', path, after: undefined };
  const adapter = basename(SOURCES[draw(SOURCES.length)]!);
  const share = 1 + draw(1_000_000);
  return { method: 'PUT', path, body: { targets: [{ adapter, share }] }, after: aliasState(adapter, share) };
};

/** On the engine of the server's own model. */
const modelChange: Next = (name, now, draw) => {
  if (now !== undefined) return { method: 'DELETE', path: `/models/${name}`, after: undefined };
  const body = { url: DEMO, model_name: name, synchronous: draw(2) === 0 };
  return { method: 'POST', path: '/models', body, after: MODEL_STATE };
};

/** The adapter that a workflow registers for itself, and that goes with it. */
const ownedBy = (workflow: string): string => `own-${workflow}`;

const workflowChange: Next = (name, now, draw) => {
  if (now !== undefined) return { method: 'DELETE', path: `/workflows/${name}`, after: undefined };
  const version = String(draw(1_000_000));
  const src = SOURCES[draw(SOURCES.length)]!;
  const adapters = { [ownedBy(name)]: { model: 'm', src } };
  const workflow = { out: ['adapter', ownedBy(name), 'in'] };
  const body = { name, version, models: { m: 'demo' }, configs: { adapters }, workflow };
  return { method: 'POST', path: '/workflows', body, after: workflowState(version, src) };
};

/** What the names of a kind begin with, and what may happen to them; adapters change most. */
const KINDS: readonly (readonly [string, Next])[] = [
  ['c', adapterChange],
  ['c', adapterChange],
  ['live', aliasChange],
  ['m', modelChange],
  ['w', workflowChange],
];
const REQUESTS = new Set(KINDS.map(([, next]) => next)).size;

/** A change that was answered. */
interface Acknowledged {
  readonly id: string;
  /** True: the log of adapters tells it. */
  readonly logged: boolean;
}

/** @returns true when it was acknowledged */
async function change(
  url: string,
  name: string,
  next: Next,
  draw: Draw,
  possible: Map<string, State[]>,
  acknowledged: Acknowledged[],
): Promise<boolean> {
  const [now] = possible.get(name) ?? [undefined];
  const id = randomUUID();
  const { method, path, body, after } = next(name, now, draw);
  possible.set(name, [now, after]);
  try {
    const headers = { 'x-request-id': id, ...(body && { 'content-type': 'application/json' }) };
    const answer = await fetch(url + path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
    assert.ok(answer.status === 200 || answer.status === 202, `${method} ${path}: ${await answer.text()}`);
    possible.set(name, [after]);
    acknowledged.push({ id, logged: next === adapterChange || next === aliasChange });
    return true;
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    return false;
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

interface ShownWorkflow {
  readonly workflowName: string;
  readonly version?: string;
}

async function check(
  url: string,
  possible: Map<string, State[]>,
  acknowledged: readonly Acknowledged[],
): Promise<void> {
  const get = async <T>(path: string) => (await (await fetch(url + path)).json()) as T;
  const { adapters } = await get<{ adapters: Shown[] }>('/adapters?verbose=true');
  const digests = new Map(adapters.map(({ name, digest }) => [`adapters/${name}`, digest]));
  const shown = new Map(adapters.map((adapter) => [adapter.name, adapter]));
  const { aliases } = await get<{ aliases: ShownAlias[] }>('/aliases');
  const others = new Map(aliases.map(({ name, targets: [to] }) => [name, aliasState(to!.adapter, to!.share)]));
  const { models } = await get<{ models: { modelName: string; status: string }[] }>('/models');
  for (const { modelName, status } of models) {
    assert.ok(status === 'READY' || status === 'PENDING', `${modelName} is ${status}`);
    others.set(modelName, MODEL_STATE);
  }
  const { workflows } = await get<{ workflows: ShownWorkflow[] }>('/workflows');
  for (const { workflowName: name, version } of workflows) {
    if (version === undefined) continue;
    const body = JSON.stringify({ inputs: 'How are you', parameters: { max_new_tokens: 1 } });
    const answer = await fetch(`${url}/predictions/${name}`, { method: 'POST', body });
    assert.equal(answer.status, 200, `${name}: ${await answer.text()}`);
    assert.equal(answer.headers.get('x-loramux-adapter')?.split('@')[0], ownedBy(name));
    others.set(name, workflowState(version, shown.get(ownedBy(name))!.src));
  }
  const left = adapters.filter(({ name }) => name.startsWith('own-') && !others.has(name.slice('own-'.length)));
  assert.deepEqual(left, [], 'no adapter is left without the workflow that registered it');
  for (const [name, states] of possible) {
    const found = shown.get(name);
    const state = found ? adapterState(found.src, found.options.n!, found.pin) : others.get(name);
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
    acknowledged.filter(({ id, logged: told }) => told && !logged.has(id)),
    [],
    'every acknowledged change is in the log',
  );
}
