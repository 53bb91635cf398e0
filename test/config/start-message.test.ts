import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AdapterInfo, ModelInfo } from '../../server/service/types.js';
import { startMessage } from '../../server/start-message.js';

test('of very many adapters some are told, the number of the others, and each one that failed', () => {
  const adapters = Array.from({ length: 2000 }, (_, i) => ({
    ...{ name: `a${i}`, state: i === 1500 ? 'failed' : 'ready', error: 'no weights' },
    ...{ ranks: [8], targetModules: ['q_proj'], features: ['lora'], digest: '', source: 'adapters/a' },
  })) as unknown as AdapterInfo[];
  const model = { name: 'demo', modelType: 'llama', parameters: 1e6, dtype: 'fp32', loraEnabled: true } as ModelInfo;
  const lines = startMessage('http://127.0.0.1:1', [model], [adapters], undefined).split('\n');
  assert.ok(lines.includes('    adapter a49, rank 8 (q_proj)'));
  assert.ok(lines.includes('    adapter a1500: FAILED: no weights'));
  assert.ok(lines.includes('    and 1949 more adapters'));
  assert.ok(lines.length < 70);
});
