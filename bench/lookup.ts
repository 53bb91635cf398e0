/**
 * `npm run bench -- lookup [--model DIR] [--dtype int8] [--lookup-tokens 8] [--tokens 160] [--rounds 3] [--threads 2] [--save]`
 *
 * One row that guesses tokens from its own text, and the same row without guesses, in turns on one backend.
 */
import type { Dtype } from '../server/engine/decoder-session.js';
import { EngineLoop } from '../server/engine/engine-loop.js';
import { openBackend } from '../server/engine/open-backend.js';
import { openModelFolder } from '../server/model/model-folder.js';
import { loadTokenizer } from '../server/text/hf-tokenizer.js';
import { loadChatTemplate } from '../server/text/jinja-template.js';
import { DEMO_MODEL } from './demo.js';
import { readFlags } from './flags.js';
import { GREEDY } from './greedy.js';
import { percentile } from './load.js';
import { tell } from './progress.js';
import { machineName, publish } from './result.js';

const NOTICE = `The ferry between the old harbour and the island leaves every morning at half past seven. It carries post,
bread and milk for the two shops, and in summer up to forty visitors with their bicycles. In winter it waits for the tide,
and when the wind blows from the north it stays in the harbour. Tickets are sold on board; children under six travel free.`;

const CASES: Readonly<Record<string, readonly string[]>> = {
  'repeat a text': [
    `Copy the following text word for word:\n\n${NOTICE}`,
    `Write this text again and change "island" to "peninsula":\n\n${NOTICE}`,
  ],
  'fields to JSON': [
    `Write a JSON list with "name", "trade" and "town" of each person: Anna is a baker in Lund. Peter is a smith in Bergen.
Maria is a tailor in Porto. Jonas is a carpenter in Graz. Clara is a printer in Ghent. Oskar is a gardener in Turku.`,
    `Make JSON objects with the keys "item", "price" and "stock" from this list: apples cost 3 and 40 are in stock; pears cost
4 and 25 are in stock; plums cost 5 and 60 are in stock; cherries cost 8 and 15 are in stock; figs cost 9 and 12 are in stock.`,
  ],
  prose: [
    'Tell a short story about a lighthouse keeper who finds a letter in a bottle.',
    'Explain why the sky is blue in the day and red in the evening.',
  ],
};

export async function run(args: string[]): Promise<void> {
  const values = readFlags(args, {
    model: DEMO_MODEL,
    dtype: 'int8',
    'lookup-tokens': 8,
    tokens: 160,
    rounds: 3,
    threads: 2,
    save: false,
  });
  const { rounds, tokens, threads, dtype } = values;
  const lookupTokens = values['lookup-tokens'];
  const folder = await openModelFolder(values.model);
  try {
    const tokenizer = await loadTokenizer(folder.dir);
    const template = await loadChatTemplate(folder.dir);
    const backend = await openBackend(folder, { dtype: dtype as Dtype, threads, lora: false });
    const limits = { maxBatch: 1, prefillChunk: 512, maxPositions: 1 << 16 };
    const off = new EngineLoop(backend, limits);
    const on = new EngineLoop(backend, { ...limits, lookupTokens });
    let nextId = 0;
    /** Runs one row; its tokens, and the milliseconds from its first token to its last. */
    const answer = async (engine: EngineLoop, promptIds: readonly number[]) => {
      const endIds = folder.eosIds;
      const id = nextId++;
      const row = { id, promptIds, selection: [], sampling: GREEDY, maxNewTokens: tokens, endIds, submittedAt: 0 };
      const refused = engine.submit(row);
      if (refused !== undefined) throw new Error(refused.message);
      const picked: number[] = [];
      let ms = 0;
      while (engine.busy) {
        const first = picked.length === 0;
        const from = performance.now();
        const output = await engine.step();
        if (!first) ms += performance.now() - from;
        for (const { cause, message } of output.ends) if (cause === 'error') throw new Error(message);
        picked.push(...output.tokens.map(({ token }) => token));
      }
      return { picked, ms };
    };
    const rows: (string | number)[][] = [];
    for (const [kind, prompts] of Object.entries(CASES)) {
      const speeds = { off: [] as number[], on: [] as number[] };
      const before = on.stats();
      let same = 0;
      let count = 0;
      for (const content of prompts) {
        const text = template.render([{ role: 'user', content }], true);
        const ids = tokenizer.encode(text, false);
        // The first time of each shape costs more.
        await answer(off, ids);
        tell(`${kind}: ${content.slice(0, 60).replaceAll('\n', ' ')}`);
        const plain: number[] = [];
        for (let round = 0; round < rounds; round += 1) {
          const without = await answer(off, ids);
          const guessed = await answer(on, ids);
          speeds.off.push(((without.picked.length - 1) / without.ms) * 1000);
          speeds.on.push(((guessed.picked.length - 1) / guessed.ms) * 1000);
          if (round === 0) plain.push(...without.picked);
          count += 1;
          same += Number(guessed.picked.length === plain.length && guessed.picked.every((id, i) => id === plain[i]));
        }
      }
      const after = on.stats();
      const accepted = after.guessesAccepted - before.guessesAccepted;
      const tried = accepted + after.guessesRejected - before.guessesRejected;
      const ratios = speeds.on.map((speed, i) => speed / speeds.off[i]!);
      rows.push([
        kind,
        percentile(speeds.off, 0.5).toFixed(1),
        percentile(speeds.on, 0.5).toFixed(1),
        percentile(ratios, 0.5).toFixed(2),
        Math.min(...ratios).toFixed(2),
        `${((100 * accepted) / Math.max(1, tried)).toFixed(0)} %`,
        `${((100 * accepted) / (after.decodeTokens - before.decodeTokens)).toFixed(0)} %`,
        `${same} of ${count}`,
      ]);
    }
    publish(
      {
        name: 'lookup',
        title: 'A row by itself that guesses tokens from its own text',
        method: `Greedy answers of at most ${tokens} tokens, ${dtype}, ${threads} threads, at most ${lookupTokens} guesses a step; with and without guesses in turns, ${rounds} rounds of two prompts of each kind. Tokens per second after the first token; ratios within a round.`,
        command: 'npm run bench -- lookup --model DIR',
        machine: machineName(),
        columns: [
          'prompts',
          'tokens/s off',
          'tokens/s on',
          'median ratio',
          'lowest ratio',
          'guesses that came true',
          'tokens that were guessed',
          'same tokens',
        ],
        rows,
        notes: [
          'same tokens: answers with guesses that equal those without; where logits differ in their last bits, int8 may round otherwise and texts part, so ratios compare texts that are alike and not always the same',
        ],
      },
      values.save,
    );
    await backend.close();
  } finally {
    await folder.close();
  }
}
