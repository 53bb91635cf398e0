/** The cases of peft-cases.ts on the processor. */
import { SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import { SupportRecord } from '../support.js';
import { testPeftCases } from './peft-cases.js';

const support = new SupportRecord('peft-cases');

testPeftCases('on the processor', {
  open: async (folder) => {
    const factory = await SessionFactory.create(folder, 'fp32');
    const runner = new StepRunner(folder.spec, await EmbeddingTable.read(folder), []);
    for (const variant of ['base', 'lora', 'full'] as const) runner.addSession(await factory.open(variant, 1));
    return runner;
  },
  merged: true,
  note: (modelType, features, run) => support.note(modelType, features, run),
});
