/** What PyTorch computed, through the public HTTP API: token ids and log-probabilities, alone and in mixed requests. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { openSafetensors } from '../../server/adapters/safetensors.js';
import { GOLDEN, GOLDEN_MODELS, type GoldenFile } from '../engine/golden-model.js';
import { startServer } from '../rest/served.js';

interface Answer {
  generated_text: string;
  details: { tokens: { id: number; log_prob: number }[]; receipt: { adapters: { name: string; digest: string }[] } };
}

type Prompt = GoldenFile['prompts'][number] & { readonly add_special_tokens: boolean };
type Case = { greedy: number[]; decode_logits?: string; decode_steps?: number[] };

const PARAMETERS = { max_new_tokens: 24, details: true, ignore_eos_token: true };

async function invoke(url: string, body: object): Promise<Answer[]> {
  const response = await fetch(`${url}/invocations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text) as Answer[];
}

/** log-softmax of `logits` at `id`. */
function logProbability(logits: Float32Array, id: number): number {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const sum = logits.reduce((total, value) => total + Math.exp(value - most), 0);
  return logits[id]! - most - Math.log(sum);
}

for (const model of GOLDEN_MODELS) {
  describe(`${model} over HTTP`, () => {
    test('every adapter answers every prompt with PyTorch’s tokens and log-probabilities, all in one request', async (t) => {
      const golden = JSON.parse(readFileSync(`${GOLDEN}golden/${model}/golden.json`, 'utf8')) as GoldenFile;
      const tensors = await openSafetensors(`${GOLDEN}golden/${model}/golden.safetensors`);
      t.after(() => tensors.close());
      const url = await startServer(t, [
        ...['--model', `${GOLDEN}models/${model}`, '--adapters', `${GOLDEN}adapters/${model}`],
        ...['--dtype', 'fp32', '--log-level', 'error', '--threads', '1'],
      ]);
      const prompts = (golden.prompts as Prompt[]).filter(({ add_special_tokens }) => add_special_tokens);
      const expected = (adapter: string): Record<string, Case> =>
        (golden.adapters[adapter]!.prompts ?? expected(golden.adapters[adapter]!.same_as!)) as Record<string, Case>;
      const adapters = Object.entries(golden.adapters).flatMap(([name, { policy }]) =>
        policy === 'load' ? [name] : [],
      );
      const cases = ['', ...adapters].flatMap((adapter) =>
        prompts.flatMap(({ id, text }) => {
          const wanted = (adapter === '' ? (golden.base as Record<string, Case>) : expected(adapter))[id];
          return wanted === undefined ? [] : [{ adapter, text, wanted }];
        }),
      );
      const answers = await invoke(url, {
        inputs: cases.map(({ text }) => text),
        adapters: cases.map(({ adapter }) => adapter),
        parameters: PARAMETERS,
      });
      for (const [i, { adapter, text, wanted }] of cases.entries()) {
        const where = `${adapter || 'base'} on ${JSON.stringify(text)}`;
        const { tokens, receipt } = answers[i]!.details;
        assert.deepEqual(
          tokens.map(({ id }) => id),
          wanted.greedy,
          where,
        );
        assert.deepEqual(
          receipt.adapters.map(({ name }) => name),
          adapter === '' ? [] : [adapter],
        );
        if (wanted.decode_logits === undefined) continue;
        const logits = await tensors.readFloat32(wanted.decode_logits);
        const vocab = logits.length / wanted.decode_steps!.length;
        for (const [at, step] of wanted.decode_steps!.entries()) {
          const { id, log_prob } = tokens[step]!;
          const own = logProbability(logits.subarray(at * vocab, (at + 1) * vocab), id);
          assert.ok(Math.abs(log_prob - own) < 4e-4, `${where}, token ${step}: ${log_prob}, PyTorch ${own}`);
        }
      }
    });
  });
}
