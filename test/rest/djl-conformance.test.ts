import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { ADAPTERS, type Outcome, renderWorkflows, runSuite, scratch } from './djl-suite.js';
import { startServer } from './served.js';

/** Cases that the strict server is meant to fail, and why docs/compatibility.md says so. */
const DEVIATIONS = ['rt-inv-target-multi'];

/** What no run of the same kinds of cases may need: these are the original's own. */
const ORIGINAL_ONLY =
  /^(hx-|hp-|adm-close$|via-query-repeat$|rt-handler$|ct-multipart$|asy-token$|asy-bad-token$|op-register-nourl$)/;

const server = (dir: string) => ['--allow-path', ADAPTERS, '--allow-path', dir, '--log-level', 'warn'];

test('the recorded cases of DJL Serving', { timeout: 300_000 }, async (t) => {
  const place = scratch(t);
  const { dir, variables } = place;
  const folder = (name: string) => ['--model', path.join(dir, name)];
  const outcomes: Outcome[] = [];
  const expectAll = (outcome: Outcome, allowed: readonly string[]) => {
    outcomes.push(outcome);
    const gained = allowed.filter((id) => outcome.passed.has(id));
    if (gained.length > 0) t.diagnostic(`no longer fail: ${gained.join(' ')}`);
    assert.deepEqual(
      outcome.failed.filter((id) => !allowed.includes(id)),
      [],
      outcome.output,
    );
  };

  await t.test('one model', async (t) => {
    const url = await startServer(t, [...server(dir), ...folder('base')]);
    const { MODEL_NOLORA: _none, ...rest } = variables;
    const have = 'single,lmi,limit64m,destructive,clean';
    expectAll(await runSuite(place, { url, have, variables: rest }), []);
    // The cases that only the original need meet, where ours does the same.
    const only = '^(ct-multi|asy-|rt-handler|via-q)';
    expectAll(await runSuite(place, { url, have: 'djl', variables: rest, only }), []);
  });

  await t.test('several models', async (t) => {
    const url = await startServer(t, [...server(dir), ...folder('base'), ...folder('nolora')]);
    const have = 'multi,nolora,lmi,limit64m,destructive';
    expectAll(await runSuite(place, { url, have, variables }), DEVIATIONS);
  });

  await t.test('workflows', async (t) => {
    const rendered = await renderWorkflows(place);
    const files = ['base', 'one', 'two'].flatMap((name) => ['--workflow', path.join(rendered, name)]);
    const url = await startServer(t, [...server(dir), ...folder('base'), ...files]);
    const have = 'multi,workflow,wfreg,lmi,destructive';
    const { MODEL_NOLORA: _none, ...rest } = variables;
    expectAll(await runSuite(place, { url, have, variables: { ...rest, WFDIR: rendered }, only: '^(wf-|op-)' }), []);
  });

  await t.test('the original’s order of places', async (t) => {
    const url = await startServer(t, [...server(dir), ...folder('base'), ...folder('nolora'), '--compat', 'djl']);
    const have = 'multi,nolora,lmi';
    expectAll(await runSuite(place, { url, have, variables, only: '^(sel|via|prec|rt|str-id|asy-id)' }), []);
  });

  await t.test('a budget for four adapters', async (t) => {
    const names = ['all-r8-b', 'mlp-r16', 'rslora', 'bf16', 'patterns'];
    const sources = Object.fromEntries(names.map((name, at) => [`SRC${at + 1}`, path.join(ADAPTERS, name)]));
    const bytes = await adapterBytes(t, [...server(dir), ...folder('base')], names);
    const budget = bytes.slice(0, 4).reduce((sum, size) => sum + size, 0);
    const url = await startServer(t, [...server(dir), ...folder('base'), '--adapter-bytes', String(budget)]);
    const options = { url, have: 'slots4', variables: { ...variables, ...sources }, only: '^adm-pin-slots$' };
    expectAll(await runSuite(place, options), []);
  });

  await t.test('every open case ran in one of these', () => {
    const seen = new Set(outcomes.flatMap(({ passed, failed }) => [...passed, ...failed]));
    const never = outcomes[0]!.skipped.filter((id) => !seen.has(id) && !ORIGINAL_ONLY.test(id));
    assert.deepEqual(never, []);
  });
});

/** Bytes of adapters once they are loaded. */
async function adapterBytes(
  t: Parameters<typeof startServer>[0],
  flags: readonly string[],
  names: readonly string[],
): Promise<number[]> {
  const url = await startServer(t, flags);
  const sizes: number[] = [];
  for (const name of names) {
    const query = new URLSearchParams({ name: `sized-${name}`, src: path.join(ADAPTERS, name) });
    assert.equal((await fetch(`${url}/adapters?${query}`, { method: 'POST' })).status, 200);
    const info = (await (await fetch(`${url}/adapters/sized-${name}?verbose=true`)).json()) as { bytes: number };
    sizes.push(info.bytes);
  }
  return sizes;
}
